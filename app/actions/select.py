"""Is this text one SELECT? A look at its words, without comments, strings and quoted names; the database makes sure of it again.

The statement is only ever written by whoever writes the action file, values are bound, and it runs in a transaction that cannot write.
This check is there so that a mistake is told when the file is read.
"""

from __future__ import annotations

import re
from typing import Final

_QUIET: Final = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_PARAMETER: Final = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
_FORBIDDEN: Final = re.compile(
    r"(alter|analyze|attach|begin|call|commit|copy|create|delete|detach|do|drop|execute|explain|grant|insert|into|load|lock|merge|pragma|"
    r"reindex|release|replace|revoke|rollback|savepoint|set|truncate|update|upsert|vacuum)"
)


def parameters(statement: str) -> set[str]:
    """The names of the `:parameters` of a single SELECT; raises `ValueError` for anything else."""
    plain = _QUIET.sub(" ", statement)
    if any(mark in plain for mark in ("'", '"', "/*")):
        raise ValueError("expected every quote and comment to be closed")
    plain = plain.strip()
    plain = plain.removesuffix(";")
    if ";" in plain:
        raise ValueError("expected one statement, found several")
    words = re.findall(r"[a-z_]\w*", _PARAMETER.sub(" ", plain).lower())
    if not words or words[0] not in ("select", "with"):
        raise ValueError("expected a SELECT")
    # a function may have one of these names: replace(name, ...)
    called = set(re.findall(r"\b([a-z_]\w*)\s*\(", plain.lower())) & {"replace", "insert"}
    wrong = [word for word in words if _FORBIDDEN.fullmatch(word) and word not in called]
    if wrong:
        raise ValueError(f"expected a SELECT that changes nothing, found {wrong[0].upper()}")
    return set(_PARAMETER.findall(plain))
