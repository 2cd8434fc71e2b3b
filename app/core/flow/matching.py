"""Regular expressions of a flow file, matched in time that grows with the text alone, whatever the expression is."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

_LINEAR = ConfigDict(regex_engine="rust-regex")


def _adapter(pattern: str) -> TypeAdapter[str]:
    text: Any = Annotated[str, StringConstraints(pattern=pattern)]
    return TypeAdapter(text, config=_LINEAR)


@lru_cache(maxsize=1024)
def whole(pattern: str) -> Callable[[str], bool]:
    """Whether a text is matched as a whole; raises `ValueError` for what is no expression (look-around and back-references are none)."""
    try:
        _adapter(pattern)
        adapter = _adapter(rf"^(?:{pattern})\z")
    except Exception as error:
        reason = next((line.removeprefix("error: ") for line in str(error).splitlines() if line.startswith("error: ")), "not an expression")
        raise ValueError(f"{pattern!r} is no regular expression: {reason.strip()}") from None

    def matches(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    return matches
