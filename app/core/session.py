"""What other systems may write into a live call: the variables under `ivr.`, by what rules.

A name is a letter or `_`, then letters, digits and `_`, 40 at most. A value is a text of at most 1,024 characters, true or false, a
number, or null, which takes the variable away. A session holds 64 of them. Where a flow declares them (`session:`), only those can be
written, and only with values of their type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SPACE = "ivr."
MAX_NAMES, MAX_TEXT = 64, 1024
LARGEST = 2**53
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_KINDS: Mapping[str, tuple[type, ...]] = {"string": (str,), "bool": (bool,), "int": (int,), "double": (int, float)}


class SessionRefused(ValueError):
    """A write that cannot be done and changed nothing. `kind` is a stable id; `errors` are (place, why) where single values are wrong."""

    def __init__(self, kind: str, detail: str, errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.kind, self.errors = kind, errors


def flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"ivr": {"email": ..}}` and `{"ivr.email": ..}` alike as `{"ivr.email": ..}`; raises `SessionRefused` for what cannot be written."""
    found: dict[str, Any] = {}
    wrong: list[tuple[str, str]] = []
    for name, value in given.items():
        inner = {f"{SPACE}{key}": each for key, each in value.items()} if name == "ivr" and isinstance(value, Mapping) else {name: value}
        for full, each in inner.items():
            why = "is given twice" if full in found else _wrong(full, each)
            if why:
                wrong.append((full[:60], why))
            found[full] = each
    if wrong:
        raise SessionRefused("invalid", f"{wrong[0][0]} {wrong[0][1]}", tuple(wrong[:20]))
    return found


def _wrong(name: str, value: Any) -> str:
    if not name.startswith(SPACE):
        return "cannot be written: only what begins with ivr. can"
    if not _NAME.fullmatch(name.removeprefix(SPACE)):
        return "is no name: a letter or _, then letters, digits and _, 40 at most"
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            return f"is longer than {MAX_TEXT} characters"
        return "holds a character that cannot be kept" if _UNSEEN.search(value) else ""
    if isinstance(value, int | float):
        return "" if abs(value) <= LARGEST else "is a number out of range"
    return "is neither a text, a number, true, false nor null"


def check_write(values: Mapping[str, Any], variables: Mapping[str, Any], declared: Mapping[str, str]) -> None:
    """Whether a call with these variables and this flow's declarations can take the values; raises `SessionRefused`."""
    for name, value in values.items():
        kind = declared.get(name.removeprefix(SPACE))
        if declared and kind is None:
            there = ", ".join(f"{SPACE}{each}" for each in sorted(declared))
            raise SessionRefused("invalid", f"the call's flow declares no {name} (there are: {there})", ((name, "is not declared"),))
        if kind and value is not None and (isinstance(value, bool) != (kind == "bool") or not isinstance(value, _KINDS[kind])):
            raise SessionRefused("invalid", f"{name} must be a {kind}", ((name, f"must be a {kind}"),))
    after = {name for name in variables if name.startswith(SPACE)}
    after = (after - {name for name, value in values.items() if value is None}) | {name for name in values if values[name] is not None}
    if len(after) > MAX_NAMES:
        raise SessionRefused("invalid", f"a session holds {MAX_NAMES} variables at most")
