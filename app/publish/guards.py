"""What a condition or a text reads, and what it makes certain: the ground on which the proofs about variables stand.

A read is *guarded* where it cannot meet a variable without a value: `contact.found && contact.premium` reads `contact.premium`
only of a record that was found (CEL's `&&` is false as soon as one side is, whichever comes first). What is certain once a
condition holds is told as names; `contact.*` is everything that the lookups into `contact` give.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

Names = frozenset[str]
NOTHING: Names = frozenset()

_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_DOTTED = re.compile(r"\b[a-z_][A-Za-z0-9_]*(?:\s*\.\s*[a-z_][A-Za-z0-9_]*)+\b(?!\s*\()|\bivr\s*\[\s*['\"](\w+)['\"]\s*\]")
_FOUND = re.compile(r"([a-z_]\w*)\.(?:found(?:\s*==\s*true)?|count\s*==\s*1)")
_PRESENT = re.compile(r"has\(\s*([a-z_]\w*\.\w+)\s*\)|['\"](\w+)['\"]\s+in\s+ivr")
_ENV = ImmutableSandboxedEnvironment()


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read: `all` names, of which `needed` are those that must have a value, lest it ends in an error."""

    all: Names
    needed: Names


@dataclass(frozen=True, slots=True)
class _Truth:
    """What is certain when an expression is true, and when it is false."""

    true: Names = NOTHING
    false: Names = NOTHING


class Guards:
    """Reads conditions and texts of one flow. `records`: for each name that only lookups fill, the variables that `found` makes certain."""

    def __init__(self, records: Mapping[str, Names]) -> None:
        self.records = records

    def condition(self, text: str, certain: Names = NOTHING) -> Reading:
        """What a condition reads, where the names in `certain` are known to have values."""
        return Reading(mentioned(text), self._needed(text, certain))

    def when_true(self, text: str) -> Names:
        return self._truth(text).true

    def when_false(self, text: str) -> Names:
        return self._truth(text).false

    def text(self, template: str) -> Reading:
        """What a text reads. `default(...)` and `is defined` need only something of that name, told as `contact.`"""
        if "{{" not in template and "{%" not in template:
            return Reading(NOTHING, NOTHING)
        needed: set[str] = set()
        every: set[str] = set()
        self._walk(_ENV.parse(template), NOTHING, needed, every)
        return Reading(frozenset(every), frozenset(needed))

    # ---- conditions ----------------------------------------------------------------------------------------------------

    def _needed(self, text: str, certain: Names) -> Names:
        kind, parts = _split(text)
        if kind == "if":
            test, yes, no = parts
            truth = self._truth(test)
            return (
                self._needed(test, certain) | self._needed(yes, certain | truth.true) | self._needed(no, certain | truth.false)
            ) - certain
        if kind == "not":
            return self._needed(parts[0], certain)
        if kind in ("and", "or"):
            found: Names = NOTHING
            for i, part in enumerate(parts):
                others = [self._truth(other) for j, other in enumerate(parts) if j != i]
                known = reduce(frozenset.union, (t.true if kind == "and" else t.false for t in others), certain)
                found |= self._needed(part, known)
            return found - certain
        if _PRESENT.fullmatch(parts[0]):
            return NOTHING
        return mentioned(text) - certain

    def _truth(self, text: str) -> _Truth:
        kind, parts = _split(text)
        if kind == "not":
            inner = self._truth(parts[0])
            return _Truth(inner.false, inner.true)
        if kind in ("and", "or"):
            inner_all = [self._truth(part) for part in parts]
            every_true = [t.true for t in inner_all]
            every_false = [t.false for t in inner_all]
            if kind == "and":
                return _Truth(reduce(frozenset.union, every_true), reduce(frozenset.intersection, every_false))
            return _Truth(reduce(frozenset.intersection, every_true), reduce(frozenset.union, every_false))
        if kind == "atom":
            atom = parts[0]
            if found := _FOUND.fullmatch(atom):
                return _Truth(self.records.get(found[1], NOTHING))
            if present := _PRESENT.fullmatch(atom):
                return _Truth(frozenset({present[1] or f"ivr.{present[2]}"}))
        return _Truth()

    # ---- texts ---------------------------------------------------------------------------------------------------------

    def _walk(self, node: jinja2.nodes.Node, certain: Names, needed: set[str], every: set[str]) -> None:
        if isinstance(node, jinja2.nodes.If):
            self._walk(node.test, certain, needed, every)
            known = certain | self._certain(node.test)
            for part in node.body:
                self._walk(part, known, needed, every)
            for part in [*node.elif_, *node.else_]:
                self._walk(part, certain, needed, every)
            return
        if isinstance(node, jinja2.nodes.CondExpr):
            self._walk(node.test, certain, needed, every)
            self._walk(node.expr1, certain | self._certain(node.test), needed, every)
            if node.expr2 is not None:
                self._walk(node.expr2, certain, needed, every)
            return
        tolerant = (isinstance(node, jinja2.nodes.Filter) and node.name in ("default", "d")) or (
            isinstance(node, jinja2.nodes.Test) and node.name in ("defined", "undefined")
        )
        name = _name(node.node) if tolerant and isinstance(node, jinja2.nodes.Filter | jinja2.nodes.Test) else None
        if name:
            every.add(name)
            if name not in certain:
                needed.add(name.partition(".")[0] + ".")
            for argument in getattr(node, "args", []):
                self._walk(argument, certain, needed, every)
            return
        if name := _name(node):
            every.add(name)
            if name not in certain:
                needed.add(name)
            return
        for child in node.iter_child_nodes():
            self._walk(child, certain, needed, every)

    def _certain(self, test: jinja2.nodes.Node) -> Names:
        if isinstance(test, jinja2.nodes.And):
            return self._certain(test.left) | self._certain(test.right)
        if isinstance(test, jinja2.nodes.Test) and test.name == "defined" and (name := _name(test.node)):
            return frozenset({name})
        name = _name(test) or ""
        return self.records.get(name.removesuffix(".found"), NOTHING) if name.endswith(".found") else NOTHING


def mentioned(text: str) -> Names:
    """Every dotted name in a condition, and `ivr['name']` as `ivr.name`; what stands in quotes is no name."""
    indexed = {f"ivr.{match[1]}" for match in _DOTTED.finditer(text) if match[1]}
    bare = _STRING.sub("''", text)
    dotted = {".".join(re.sub(r"\s", "", match[0]).split(".")[:2]) for match in _DOTTED.finditer(bare) if not match[1]}
    present = {match[1] or f"ivr.{match[2]}" for match in _PRESENT.finditer(text)}
    return frozenset(indexed | dotted | present)


def _name(node: jinja2.nodes.Node | None) -> str | None:
    """`contact.name` for an attribute or an item of a plain name."""
    if isinstance(node, jinja2.nodes.Getattr) and isinstance(node.node, jinja2.nodes.Name):
        return f"{node.node.name}.{node.attr}"
    if isinstance(node, jinja2.nodes.Getitem) and isinstance(node.node, jinja2.nodes.Name) and isinstance(node.arg, jinja2.nodes.Const):
        return f"{node.node.name}.{node.arg.value}"
    return None


def _split(text: str) -> tuple[str, list[str]]:
    """The outermost operator of a condition with its operands: if, or, and, not; `atom` where there is none of these."""
    text = text.strip()
    while text.startswith("(") and _closing(text) == len(text) - 1:
        text = text[1:-1].strip()
    question = list(_outside(text, "?"))
    if question:
        colon = [at for at in _outside(text, ":") if at > question[0]]
        if len(question) == 1 and len(colon) == 1:
            return "if", [text[: question[0]], text[question[0] + 1 : colon[0]], text[colon[0] + 1 :]]
        return "atom", [text]
    for kind, sign in (("or", "||"), ("and", "&&")):
        at = list(_outside(text, sign))
        if at:
            ends = [-len(sign), *at, len(text)]
            return kind, [text[a + len(sign) : b] for a, b in pairwise(ends)]
    if text.startswith("!") and (text[1:].lstrip().startswith("(") or not re.search(r"[=<>+*/%-]|\bin\b", _STRING.sub("", text[1:]))):
        inner = text[1:].strip()
        if not inner.startswith("(") or _closing(inner) == len(inner) - 1:
            return "not", [inner]
    return "atom", [text]


def _outside(text: str, sign: str) -> Iterator[int]:
    """Where a sign stands outside of strings and brackets."""
    quiet = _STRING.sub(lambda match: "_" * len(match[0]), text)
    depth = 0
    for at, character in enumerate(quiet):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and quiet.startswith(sign, at):
            yield at


def _closing(text: str) -> int:
    """Where the bracket that opens `text` is closed."""
    quiet = _STRING.sub(lambda match: "_" * len(match[0]), text)
    depth = 0
    for at, character in enumerate(quiet):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return at
    return -1
