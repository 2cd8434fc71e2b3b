"""What to say of a name that nothing has: what was probably meant, or what there is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 12


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`there is no queue 'gld' (did you mean 'gold'?)`"""
    return f"there is no {kind} {name!r}{likely(name, known)}"


def likely(name: str, known: Iterable[str]) -> str:
    """The known name that is like this one; all of them where they are few; in brackets, with a space before."""
    names = sorted(known)
    close = get_close_matches(name, names, 1, 0.7)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are: {', '.join(names)})" if 0 < len(names) <= SHOWN else ""
