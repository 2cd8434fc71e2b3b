"""The part of SOQL and of OData filters that presets use: conditions joined by and, or, not and parentheses, over one record at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]
Test = Callable[[Record], bool]


class Unreadable(ValueError):
    """A query that breaks the grammar."""


class Reader:
    """A recursive descent over tokens; `atom(reader)` reads one condition."""

    def __init__(self, text: str, token: str, atom: Callable[[Reader], Test]) -> None:
        self._tokens = re.findall(rf"\s*({token})", text)
        if "".join(self._tokens).replace(" ", "") != re.sub(r"\s", "", text).replace(" ", ""):
            raise Unreadable(f"unexpected token in {text!r}")
        self._atom = atom
        self._at = 0

    def whole(self) -> Test:
        """The condition that the whole text is."""
        test = self.either()
        if self.peek():
            raise Unreadable(f"unexpected token: {self.peek()!r}")
        return test

    def either(self) -> Test:
        tests = [self.both()]
        while self.peek().lower() == "or":
            self.take()
            tests.append(self.both())
        return lambda record: any(test(record) for test in tests)

    def both(self) -> Test:
        tests = [self.one()]
        while self.peek().lower() == "and":
            self.take()
            tests.append(self.one())
        return lambda record: all(test(record) for test in tests)

    def one(self) -> Test:
        if self.peek() != "(":
            return self._atom(self)
        self.take("(")
        test = self.either()
        self.take(")")
        return test

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        found = self.peek()
        if not found or (expected and found.lower() != expected.lower()):
            raise Unreadable(f"expected {expected or 'more'!r}, found {found or 'the end'!r}")
        self._at += 1
        return found

    def items(self, opening: str, closing: str, read: Callable[[str], Any]) -> list[Any]:
        """A list between two brackets."""
        self.take(opening)
        found = [read(self.take())]
        while self.peek() == ",":
            self.take(",")
            found.append(read(self.take()))
        self.take(closing)
        return found
