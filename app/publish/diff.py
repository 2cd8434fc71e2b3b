"""What changes for callers from one version of a flow to another, told in their terms.

Paths are matched by their circumstances: the same kind of caller who does the same things. Where a version has a step more, one path
of the other is matched by several, whose circumstances are those and some more. What matched paths let the caller notice is compared;
paths without a match appear or vanish. Changes that are alike on several paths are told once, for what those callers have in common.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from app.core.flow.program import Automation, Program
from app.publish.paths import Moment, Path, TooManyPaths, paths
from app.publish.sketch import asked_beside

CHANGED, APPEARS, VANISHES, PROGRAM = "changed", "appears", "vanishes", "program"
PAIRS = 200_000
"""Pairs of paths that are looked at one by one."""
_ORDER = (PROGRAM, CHANGED, APPEARS, VANISHES)
Circumstances = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One change: for which callers, what they noticed `before` and notice `after`, and on how many `ways` through the flow."""

    kind: str
    who: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    ways: int = 0

    def told(self) -> dict[str, Any]:
        """As plain JSON values."""
        sides = {"who": list(self.who), "before": list(self.before), "after": list(self.after)}
        return {"kind": self.kind, **sides, "ways": self.ways, "text": self.text()}

    def text(self) -> str:
        """As a sentence or two."""
        before, after = ", then ".join(self.before), ", then ".join(self.after)
        if self.kind == PROGRAM:
            return f"{', '.join(self.who)}: {before or 'nothing'} before, {after or 'nothing'} now."
        who = "A caller" + "".join(f", {each}" for each in self.who) + ("," if self.who else "")
        if self.kind == APPEARS:
            return f"There is a new way: {who.lower().rstrip(',')}: {after}."
        if self.kind == VANISHES:
            return f"There is a way less: {who.lower().rstrip(',')}: {before}."
        if not before:
            return f"{who} now also {after}."
        return f"{who} no longer {before}." if not after else f"{who} now {after}; before: {before}."


@dataclass(slots=True)
class _Alike:
    """Changes that are the same but for the callers whom they befall."""

    kind: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    whose: list[Sequence[Moment]] = field(default_factory=list)

    def change(self) -> Change:
        first, *others = self.whose
        common = [moment for moment in first if all(moment in other for other in others)]
        telling = [moment.words for moment in common if moment.key[-1] != "otherwise"]
        return Change(self.kind, tuple(dict.fromkeys(telling)), self.before, self.after, len(self.whose))


def differences(old: Program, new: Program) -> list[Change]:
    """Every change, the program's own first."""
    changes = list(_of_the_program(old, new))
    both = old, _named_alike(new, old)
    try:
        before, after = _all_ways(*both)
    except TooManyPaths as error:
        return [*changes, Change(PROGRAM, (f"{error}; they were not compared",), (), ())]
    return sorted((*changes, *_of_the_paths(before, after)), key=lambda change: (_ORDER.index(change.kind), -change.ways))


def _all_ways(old: Program, new: Program) -> tuple[dict[Circumstances, Path], dict[Circumstances, Path]]:
    """The paths of both; where there are too many, ways that lead to the same step are taken together."""
    try:
        return _by_circumstances(paths(old)), _by_circumstances(paths(new))
    except TooManyPaths:
        return _by_circumstances(paths(old, together=True)), _by_circumstances(paths(new, together=True))


def _of_the_program(old: Program, new: Program) -> Iterable[Change]:
    for title, name in (("the numbers dialled", "dnis"), ("the language", "language")):
        was, is_ = getattr(old, name), getattr(new, name)
        if was != is_:
            yield Change(PROGRAM, (title,), _texts(was), _texts(is_))
    before, after = ([_beside(each) for each in program.automations] for program in (old, new))
    if before != after:
        gone, come = tuple(each for each in before if each not in after), tuple(each for each in after if each not in before)
        yield Change(PROGRAM, ("what is asked beside the steps",), gone, come)
    for name, expression in new.conditions.items():
        if old.conditions.get(name, expression) != expression:
            yield Change(PROGRAM, (f"what {name} means",), (old.conditions[name],), (expression,))


def _beside(automation: Automation) -> str:
    """An automation in words that no other one has."""
    given = ", ".join(f"{name}: {text}" for name, text in automation.parameters.items())
    return f"{f'at {automation.at}, ' if automation.at else ''}{asked_beside(automation)} [{given}]"


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _named_alike(program: Program, old: Program) -> Program:
    """The program with each condition under the old one's name for it, where that has another name for the same."""
    names = {expression: name for name, expression in old.conditions.items()}
    other = {n: names[e] for n, e in program.conditions.items() if n not in old.conditions and e in names}
    if not other:
        return program
    steps = {
        name: node.model_copy(update={"cases": {other.get(n, n): s for n, s in node.cases.items()}}) if hasattr(node, "cases") else node
        for name, node in program.steps.items()
    }
    return program.model_copy(update={"steps": steps})


def _by_circumstances(found: Iterable[Path]) -> dict[Circumstances, Path]:
    return {tuple(moment.key for moment in path if not moment.noticed): path for path in found}


def _of_the_paths(before: Mapping[Circumstances, Path], after: Mapping[Circumstances, Path]) -> list[Change]:
    groups: dict[tuple[Any, ...], _Alike] = {}
    gone, come = [key for key in before if key not in after], [key for key in after if key not in before]
    matches = _matches(come, gone)
    nearest, matched = dict(matches), {key for pair in matches for key in pair}
    for key in after:
        if key in before or key in nearest:
            _compare(before[nearest.get(key, key)], after[key], groups)
    for kind, those, paths_of, others in ((APPEARS, come, after, before), (VANISHES, gone, before, after)):
        beginnings = {key[:n] for key in others for n in range(len(key) + 1)}
        for key in those:
            if key not in matched:
                _alone(kind, key, paths_of[key], beginnings, groups)
    return [group.change() for group in groups.values()]


def _matches(come: Sequence[Circumstances], gone: Sequence[Circumstances]) -> list[tuple[Circumstances, Circumstances]]:
    """New and old circumstances of which one is the other with more in it; of several for the same new ones the nearest comes last.

    Where there are very many, only what differs in one stretch is found.
    """
    found: list[tuple[Circumstances, Circumstances]] = []
    new, old = set(come), set(gone)
    found += [(shorter, key) for key in gone for shorter in _shortened(key) if shorter in new]
    found += [(key, shorter) for key in come for shorter in _shortened(key) if shorter in old]
    if len(come) * len(gone) <= PAIRS:
        known = {key for pair in found for key in pair}
        found += [(n, o) for n in come if n not in known for o in gone if _is_within(o, n) or _is_within(n, o)]
    return sorted(found, key=lambda pair: (min(map(len, pair)), -abs(len(pair[0]) - len(pair[1]))))


def _shortened(key: Circumstances) -> Iterator[Circumstances]:
    """The circumstances with each stretch of them left out."""
    for length in range(1, len(key)):
        for at in range(len(key) - length + 1):
            yield key[:at] + key[at + length :]


def _is_within(few: Circumstances, many: Circumstances) -> bool:
    """Whether all of `few` are in `many`, in order."""
    rest = iter(many)
    return all(key in rest for key in few)


def _compare(old: Path, new: Path, groups: dict[tuple[Any, ...], _Alike]) -> None:
    """Note each stretch of what a caller notices that is not the same on both paths."""
    for lost, found, until in _stretches(old, new):
        before, after = tuple(m.words for m in lost), tuple(m.words for m in found)
        if before == after:
            before, after = _settings(lost, found), _settings(found, lost)
        key = (CHANGED, tuple(m.key for m in lost), tuple(m.key for m in found))
        groups.setdefault(key, _Alike(CHANGED, before, after)).whose.append([m for m in new[:until] if not m.noticed])


def _stretches(old: Path, new: Path) -> Iterator[tuple[list[Moment], list[Moment], int]]:
    """What was noticed, what is noticed instead, and where in the new path that begins: as small as can be told apart."""
    had, has = [m for m in old if m.noticed], [(at, m) for at, m in enumerate(new) if m.noticed]
    matcher = SequenceMatcher(None, [m.key for m in had], [m.key for _, m in has], autojunk=False)
    known = {m.key for m in old if not m.noticed}
    for what, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if what == "equal":
            continue
        lost, found = had[old_from:old_to], has[new_from:new_to]
        while lost and found and lost[0].key[0] == found[0][1].key[0]:
            yield lost[:1], [found[0][1]], found[0][0]
            lost, found = lost[1:], found[1:]
        turn = next((n for n in range(1, len(found)) if any(m.key not in known for m in new[found[n - 1][0] + 1 : found[n][0]])), 0)
        if turn and lost:
            yield [], [m for _, m in found[:turn]], found[0][0]
            found = found[turn:]
        if lost or found:
            yield lost, [m for _, m in found], found[0][0] if found else has[new_to][0] if new_to < len(has) else len(new)


def _settings(those: Iterable[Moment], others: Iterable[Moment]) -> tuple[str, ...]:
    """What sets moments apart that are told by the same words."""
    return tuple(
        f"{mine.words} [{', '.join(f'{name}: {value}' for name, value in mine.settings if (name, value) not in other.settings)}]"
        for mine, other in zip(those, others, strict=True)
        if mine.key != other.key
    )


def _alone(kind: str, key: Circumstances, path: Path, beginnings: Container[Circumstances], groups: dict[tuple[Any, ...], _Alike]) -> None:
    """Note a path that the other version has no match for, from the first circumstance that tells it from all of the other's paths."""
    shared = next(n for n in range(len(key), -1, -1) if key[:n] in beginnings)
    mine = [moment for moment in path if not moment.noticed]
    who = mine[: shared + 1]
    at = path.index(who[-1]) if who else 0
    rest = tuple(m.words if m.noticed else f"({m.words})" for m in path[at + 1 :])
    group = groups.setdefault((kind, key[shared : shared + 1]), _Alike(kind, (), ()))
    if not group.whose or len(rest) < len(group.before or group.after):
        group.before, group.after = ((), rest) if kind == APPEARS else (rest, ())
    group.whose.append(who)
