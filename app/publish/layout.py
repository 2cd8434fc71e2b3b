"""Where the boxes of a drawing stand: layers from top to bottom, few crossings, short straight lines.

A layered layout in four moves: lines that lead back are turned round; each box goes one layer below the lowest box that leads to it;
boxes are ordered within their layers to cross few lines; and each layer is placed as near to its neighbours as the widths allow.
Lines that pass a layer have a bend there, and all lines to the same box share their bends, so that they run as one. Equal input
gives equal output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SWEEPS = 24
SPREADS = 160
BEND = 10.0
"""The width that a line has for itself where it passes a layer."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line between two boxes as it is to be drawn; `bends` are the (x, layer) that it passes, from its source to its target."""

    source: str
    target: str
    bends: tuple[tuple[float, int], ...]
    back: bool


@dataclass(slots=True)
class Layout:
    """The layer and the middle of each box, and every line. Lines from a box to itself are left out."""

    layer: dict[str, int]
    middle: dict[str, float]
    lines: list[Line] = field(default_factory=list)
    layers: int = 0


def lay_out(widths: Mapping[str, float], links: Iterable[tuple[str, str]], gap: float = 36.0) -> Layout:
    """Place boxes of these widths; `links` are pairs of source and target."""
    pairs = list(dict.fromkeys((a, b) for a, b in links if a != b))
    back = _turned(list(widths), pairs)
    downward = [(b, a) if (a, b) in back else (a, b) for a, b in pairs]
    layer = _layers(list(widths), list(dict.fromkeys(downward)))
    grid = _Grid(dict(widths), layer, gap)
    chains = {pair: grid.chain(*pair, turned=pair in back) for pair in pairs}
    grid.order()
    middle = grid.place()
    lines = [
        Line(
            a,
            b,
            tuple((middle[bend], grid.layer[bend]) for bend in (chains[a, b][::-1] if (a, b) in back else chains[a, b])),
            (a, b) in back,
        )
        for a, b in pairs
    ]
    left = min((middle[name] - width / 2 for name, width in grid.width.items()), default=0.0)
    shifted = [Line(n.source, n.target, tuple((x - left, at) for x, at in n.bends), n.back) for n in lines]
    return Layout(layer, {name: middle[name] - left for name in widths}, shifted, max(layer.values(), default=-1) + 1)


def _turned(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """The links that lead back to where a walk from the top came from."""
    follow: dict[str, list[str]] = {name: [] for name in names}
    for a, b in pairs:
        follow[a].append(b)
    turned: set[tuple[str, str]] = set()
    done: set[str] = set()
    for root in names:
        if root in done:
            continue
        open_ = {root: iter(follow[root])}
        while open_:
            name = next(reversed(open_))
            for to in open_[name]:
                if to in open_:
                    turned.add((name, to))
                elif to not in done:
                    open_[to] = iter(follow[to])
                    break
            else:
                done.add(name)
                del open_[name]
    return turned


def _layers(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Each box one layer below the lowest that leads to it; those that the first box does not lead to, just above what they lead to."""
    above: dict[str, list[str]] = {name: [] for name in names}
    below: dict[str, list[str]] = {name: [] for name in names}
    for a, b in pairs:
        above[b].append(a)
        below[a].append(b)
    layer: dict[str, int] = {}
    left = {name: len(above[name]) for name in names}
    ready = [name for name in names if not left[name]]
    from_first = set(names[:1])
    while ready:
        name = ready.pop(0)
        from_first.update(below[name] if name in from_first else ())
        layer[name] = max((layer[a] + 1 for a in above[name]), default=0)
        for b in below[name]:
            left[b] -= 1
            if not left[b]:
                ready.append(b)
    for name in reversed(layer):
        if name not in from_first and below[name]:
            layer[name] = min(layer[b] for b in below[name]) - 1
    lowest = min(layer.values(), default=0)
    return {name: at - lowest for name, at in layer.items()}


class _Grid:
    """Boxes and bends in their layers; bends are named by what they lead to."""

    def __init__(self, width: dict[str, float], layer: dict[str, int], gap: float) -> None:
        self.width, self.layer, self.gap = width, dict(layer), gap
        self.rows: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
        for name in width:
            self.rows[layer[name]].append(name)
        self.up: dict[str, list[str]] = {name: [] for name in width}
        self.down: dict[str, list[str]] = {name: [] for name in width}

    def chain(self, source: str, target: str, *, turned: bool) -> list[str]:
        """The bends of a line, from its upper end to its lower one; made where no other line to the same box has made them."""
        top, bottom = (target, source) if turned else (source, target)
        kind = "back" if turned else "down"
        bends = [f"{kind} {target} {at}" for at in range(self.layer[top] + 1, self.layer[bottom])]
        for bend, at in zip(bends, range(self.layer[top] + 1, self.layer[bottom]), strict=True):
            if bend not in self.layer:
                self.width[bend], self.layer[bend] = BEND, at
                self.up[bend], self.down[bend] = [], []
                self.rows[at].append(bend)
        for a, b in zip([top, *bends], [*bends, bottom], strict=True):
            if b not in self.down[a]:
                self.down[a].append(b)
                self.up[b].append(a)
        return bends

    # ---- order ---------------------------------------------------------------------------------------------------------

    def order(self) -> None:
        """Sort each layer by where its neighbours stand, down and up again, and keep the order that crosses fewest lines."""
        best, fewest = [list(row) for row in self.rows], self.crossings()
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            rows = range(1, len(self.rows)) if down else range(len(self.rows) - 2, -1, -1)
            for at in rows:
                self._sort(at, self.up if down else self.down, at - 1 if down else at + 1)
            self._swap()
            crossed = self.crossings()
            if crossed < fewest:
                best, fewest = [list(row) for row in self.rows], crossed
        self.rows = best

    def _sort(self, at: int, neighbours: Mapping[str, list[str]], beside: int) -> None:
        place = {name: i for i, name in enumerate(self.rows[beside])}
        row = self.rows[at]
        own = {name: i * len(place) / max(len(row), 1) for i, name in enumerate(row)}

        def middle(name: str) -> float:
            near = [place[other] for other in neighbours[name] if other in place]
            return sum(near) / len(near) if near else own[name]

        row.sort(key=middle)

    def _swap(self) -> None:
        """Exchange neighbours as long as that crosses fewer lines."""
        for at, row in enumerate(self.rows):
            for i in range(len(row) - 1):
                a, b = row[i], row[i + 1]
                if self._between(at, b, a) < self._between(at, a, b):
                    row[i], row[i + 1] = b, a

    def _between(self, at: int, left: str, right: str) -> int:
        """How often the lines of two boxes side by side cross."""
        crossed = 0
        for neighbours, beside in ((self.up, at - 1), (self.down, at + 1)):
            if 0 <= beside < len(self.rows):
                place = {name: i for i, name in enumerate(self.rows[beside])}
                crossed += sum(place[a] > place[b] for a in neighbours[left] for b in neighbours[right])
        return crossed

    def crossings(self) -> int:
        crossed = 0
        for at in range(len(self.rows) - 1):
            place = {name: i for i, name in enumerate(self.rows[at + 1])}
            ends = [sorted(place[b] for b in self.down[a]) for a in self.rows[at]]
            crossed += sum(x > y for i, left in enumerate(ends) for right in ends[i + 1 :] for x in left for y in right)
        return crossed

    # ---- place ---------------------------------------------------------------------------------------------------------

    def place(self) -> dict[str, float]:
        """The middle of every box and bend."""
        middle: dict[str, float] = {}
        for row in self.rows:
            at = 0.0
            for name in row:
                middle[name] = at + self.width[name] / 2
                at += self.width[name] + self.gap
        for spread in range(SPREADS):
            rows = self.rows if spread % 2 == 0 else self.rows[::-1]
            for row in rows:
                self._settle(row, middle)
        return middle

    def _settle(self, row: list[str], middle: dict[str, float]) -> None:
        """Move a layer as near to what it is tied to as its widths allow: least squares, by merging those that push one another."""
        blocks: list[list[float]] = []
        offset, offsets = 0.0, []
        for i, name in enumerate(row):
            if i:
                bends = self.width[name] == BEND and self.width[row[i - 1]] == BEND
                offset += (self.width[row[i - 1]] + self.width[name]) / 2 + (self.gap / 2 if bends else self.gap)
            offsets.append(offset)
            wish, weight = self._wish(name, middle)
            blocks.append([(wish - offset) * weight, weight, 1])
            while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
                last = blocks.pop()
                blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
        i = 0
        for total, weight, count in blocks:
            for _ in range(int(count)):
                middle[row[i]] = total / weight + offsets[i]
                i += 1

    def _wish(self, name: str, middle: Mapping[str, float]) -> tuple[float, float]:
        """Where a box would stand if nothing were beside it, and how much that matters. Bends want to be straight."""
        near = [*self.up[name], *self.down[name]]
        if not near:
            return middle[name], 0.1
        own = self.width[name] == BEND
        weights = [8.0 if own and self.width[other] == BEND else 1.0 for other in near]
        return sum(w * middle[other] for w, other in zip(weights, near, strict=True)) / sum(weights), sum(weights)
