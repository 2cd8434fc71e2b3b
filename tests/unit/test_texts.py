"""Texts are filled as Jinja fills them, whichever way they take."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.flow.texts import MAX_TEXT, BadText, compiled, fill

SCOPE: dict[str, Any] = {
    "contact": {"name": "Anna {{ contact.id }}", "id": 7, "premium": True, "share": 0.5, "items": "three", "tags": ["a"], "_hidden": "h"},
    "vars": {"reference": "4711", "empty": "", "long": "x" * 5000},
}
PIECES = (
    *("{{ contact.name }}", "{{contact.id}}", "{{ contact.premium }}", "{{ contact.share }}", "{{ contact.items }}", "{{ contact.tags }}"),
    *("{{ contact._hidden }}", "{{ contact.nobody }}", "{{ nothing.name }}", "{{ contact }}", "{{ contact['id'] }}"),
    *("{{- vars.reference -}}", "{{ vars.empty }}", "{{ vars.long }}", "{{ contact.id + 1 }}", "{% if contact.premium %}yes{% endif %}"),
    *("{{ contact.name|upper }}", "{{ 'a' }}", "{# nothing #}", " words, ", "\n", "\r\n", "<b>", "}}", "{ {"),
)


def by_jinja(template: str) -> str | None:
    """What Jinja itself makes of it; None where it is no template, or a value is not there."""
    try:
        ready = compiled(template)
        return template if ready is None else ready.render(SCOPE)[:MAX_TEXT]
    except (BadText, jinja2.UndefinedError):
        return None


@given(st.lists(st.sampled_from(PIECES), max_size=5))
@example(list(PIECES))
def test_a_text_is_what_jinja_makes_of_it(pieces: list[str]) -> None:
    for template in ("".join(pieces), *pieces):
        expected = by_jinja(template)
        if expected is None:
            with pytest.raises(BadText):
                fill(template, SCOPE)
        else:
            assert fill(template, SCOPE) == expected


def test_a_text_that_lacks_a_value_says_which() -> None:
    with pytest.raises(BadText, match="nobody"):
        fill("Dear {{ contact.nobody }}", SCOPE)
