"""Typed values: what goes into an action and what comes out of it.

A type is one of `string`, `boolean`, `number`, `integer`, `object`, or `list of` one of these. Conversion is strict, since a
flow decides by these values: `"3"` is no integer, `0` is no boolean; only `3.0` counts as the integer 3, as JSON knows no
difference. Strings lose control characters and bidirectional overrides, which have no business on a screen or in speech.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

SCALARS = {"string": "string", "boolean": "bool", "number": "double", "integer": "int", "object": "map"}
TYPES = (*SCALARS, *(f"list of {scalar}" for scalar in SCALARS))
MAX_TEXT = 4096
MAX_STRUCTURE = 16_384

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?")
_SPELLED = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class WrongType(ValueError):
    """A value is not of its declared type; the message names the types, never the value."""


class TooBig(ValueError):
    """A value is larger than a variable of a call may be."""


def cel_type(kind: str) -> str:
    """The name of a type in conditions: string, bool, int, double, map or list."""
    return SCALARS.get(kind, "list")


def convert(value: Any, kind: str) -> Any:
    """The JSON value as its declared type; raises `WrongType` or `TooBig`."""
    scalar = _CONVERTERS.get(kind)
    if scalar is not None:
        return scalar(value)
    if not isinstance(value, list):
        raise WrongType(f"{kind} expected, found {_found(value)}")
    item = _CONVERTERS[kind.removeprefix("list of ")]
    return [item(entry) for entry in _bounded(value)]


def loosely(value: Any, kind: str) -> Any:
    """The value of a source that has only texts (XML, CSV) or no booleans (databases), made what its type expects where it says so clearly.

    What is not clear is left alone, for `convert` to refuse; an empty text is nothing to any type but `string`.
    """
    if kind.startswith("list of ") and value is not None:
        item = kind.removeprefix("list of ")
        return [loosely(entry, item) for entry in (value if isinstance(value, list) else [value])]
    if isinstance(value, str) and kind != "string":
        text = value.strip()
        if not text:
            return None
        if kind == "boolean":
            return _SPELLED.get(text.lower(), value)
        if kind in ("number", "integer") and _NUMBER.fullmatch(text):
            return float(text) if kind == "number" or "." in text else int(text)
    if kind == "boolean" and not isinstance(value, bool) and value in (0, 1):
        return bool(value)
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def from_text(text: str, kind: str) -> Any:
    """The value that a file spells: text itself for `string`, JSON for every other type. Raises `WrongType`."""
    if kind == "string":
        return convert(text, kind)
    try:
        return convert(orjson.loads(text), kind)
    except orjson.JSONDecodeError as error:
        raise WrongType(f"{kind} expected, written as JSON, found {text!r}") from error


def clean(text: str) -> str:
    """The text without characters that have no business on a screen or in speech."""
    return _UNSAFE.sub("", text)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongType(f"string expected, found {_found(value)}")
    if len(value) > MAX_TEXT:
        raise TooBig(f"a string of {len(value)} characters; {MAX_TEXT} are allowed")
    return clean(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongType(f"boolean expected, found {_found(value)}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WrongType(f"number expected, found {_found(value)}")
    return float(value)


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    raise WrongType(f"integer expected, found {_found(value)}")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongType(f"object expected, found {_found(value)}")
    return {clean(key): _cleaned(item) for key, item in _bounded(value).items()}


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    return value


def _bounded(value: Any) -> Any:
    size = len(orjson.dumps(value))
    if size > MAX_STRUCTURE:
        raise TooBig(f"{size} bytes of JSON; {MAX_STRUCTURE} are allowed in one attribute")
    return value


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "boolean": _boolean,
    "number": _number,
    "integer": _integer,
    "object": _object,
}


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {bool: "boolean", str: "string", int: "integer", float: "number", list: "list", dict: "object"}
    return names.get(type(value), type(value).__name__)
