"""Texts: templates an administrator wrote, filled with values that anybody may have sent.

Jinja's immutable sandbox with strict names and no loops. A value is only ever a value: it is never read as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT = 4_000
_LOOPS = ("for", "macro", "call", "include", "import", "extends", "block", "filter", "set")
_ENV = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
_ENV.globals.clear()


class BadText(ValueError):
    """A template that cannot be used, or not with these values."""


@lru_cache(maxsize=4096)
def compiled(template: str) -> jinja2.Template | None:
    """The template compiled, or None where there is nothing to fill in; raises `BadText`."""
    if "{{" not in template and "{%" not in template:
        return None
    try:
        tag = False
        for _, kind, value in _ENV.lex(template):
            if tag and kind == "name" and value in _LOOPS:
                raise BadText(f"{template!r}: {value!r} cannot be used in a text")
            tag = kind == "block_begin" or (tag and kind == "whitespace")
        return _ENV.from_string(template)
    except jinja2.TemplateError as error:
        raise BadText(f"{template!r}: {error}") from None


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[str | tuple[str, str], ...]:
    """A template that only has variables in it, `{{ contact.name }}`, as words and (space, key); () for any other.

    Such a one is filled by looking the values up, which gives what Jinja gives at a fraction of the cost. Keys that mean something else
    to Jinja, such as `items`, are left to it.
    """
    found: list[str | tuple[str, str]] = []
    for output in _ENV.parse(template).body:
        for node in output.nodes if isinstance(output, jinja2.nodes.Output) else [output]:
            if isinstance(node, jinja2.nodes.TemplateData):
                found.append(node.data)
            elif isinstance(node, jinja2.nodes.Getattr) and isinstance(node.node, jinja2.nodes.Name) and not hasattr(dict, node.attr):
                found.append((node.node.name, node.attr))
            else:
                return ()
    return tuple(found)


@lru_cache(maxsize=4096)
def names(template: str) -> frozenset[str]:
    """The variables that a template names, dotted; raises `BadText`."""
    if compiled(template) is None:
        return frozenset()
    tree = _ENV.parse(template)
    parts: list[tuple[jinja2.nodes.Expr, Any]] = [(node.node, node.attr) for node in tree.find_all(jinja2.nodes.Getattr)]
    parts += [(node.node, getattr(node.arg, "value", None)) for node in tree.find_all(jinja2.nodes.Getitem)]
    found, spaces = set(), set()
    for space, key in parts:
        if isinstance(space, jinja2.nodes.Name) and isinstance(key, str):
            found.add(f"{space.name}.{key}")
            spaces.add(id(space))
    return frozenset(found | {node.name for node in tree.find_all(jinja2.nodes.Name) if id(node) not in spaces})


def fill(template: str, scope: dict[str, Any]) -> str:
    """The text with `scope`'s values, of at most 4,000 characters; raises `BadText` where a name has no value."""
    ready = compiled(template)
    if ready is None:
        return template
    with suppress(KeyError):  # Jinja says it better what has no value
        if parts := _parts(template):
            return "".join(part if isinstance(part, str) else str(scope[part[0]][part[1]]) for part in parts)[:MAX_TEXT]
    try:
        return "".join(ready.root_render_func(ready.new_context(scope, shared=True)))[:MAX_TEXT]
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise BadText(f"{template!r}: {error}") from None


def nested(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`{"contact.name": 1}` as `{"contact": {"name": 1}}`, the form in which texts see the variables."""
    out: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        space, _, key = name.partition(".")
        out.setdefault(space, {})[key] = value
    return out
