"""A flow as an SVG picture, complete in itself.

A box is a step: its name, what it does, and the first words that the caller hears. Lines are exits, with their names where they
begin; failures are dashed, ways back are blue. Steps that no call can come to are grey.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from app.publish.layout import Layout, lay_out
from app.publish.meaning import Context
from app.publish.sketch import FILL, WORDS, Arrow, Box, sketch

WIDE, NARROW, TALL, BETWEEN, EDGE = 150.0, 84.0, 62.0, 84.0, 28.0
BACK_IN = 18.0
"""The room for lines that come back to a box from below."""
STUB = 26.0
"""How far a line goes straight down where its name stands."""
CORNER = 26.0
"""What a box has for itself above its right end: the page of the flows puts the number of calls there."""


def svg(context: Context) -> str:
    """The flow as an SVG picture, complete in itself."""
    boxes, arrows = sketch(context)
    forward: dict[str, float] = dict.fromkeys(boxes, BACK_IN)
    around: dict[str, float] = dict.fromkeys(boxes, 0.0)
    for arrow in arrows:
        if arrow.source == arrow.target:
            around[arrow.source] = 2 * (text_width(arrow.label, 11) + 12)
        else:
            forward[arrow.source] += name_width(arrow)
    widths = {name: max(box_width(box), forward[name]) for name, box in boxes.items()}
    rooms = {name: width + around[name] for name, width in widths.items()}
    layout = lay_out(rooms, [(arrow.source, arrow.target) for arrow in arrows])
    return _Picture(context, boxes, arrows, widths, layout).draw()


def name_width(arrow: Arrow) -> float:
    """Pixels that a line needs where it leaves its box."""
    return text_width(arrow.label, 11) + 14


def box_width(box: Box) -> float:
    """Pixels that the words of a box need."""
    words = max(text_width(box.name, 13), text_width(box.does, 11), text_width(box.quote, 11))
    return max(NARROW, words + 36) if box.group in ("end", "entry") else max(WIDE, words + 32)


def text_width(text: str, size: float) -> float:
    """Pixels that a text takes at most in a common sans-serif face."""
    return sum(0.32 if c in "ijl.,:;|'! ()[]" else 0.92 if c in "mwMW@…" else 0.6 for c in text) * size


class _Picture:
    """Everything placed, in pixels."""

    def __init__(self, context: Context, boxes: dict[str, Box], arrows: list[Arrow], widths: dict[str, float], layout: Layout) -> None:
        self.context, self.boxes, self.arrows, self.widths, self.layout = context, boxes, arrows, widths, layout
        self.top = EDGE + 44.0
        self.room = {(arrow.source, arrow.target): name_width(arrow) for arrow in arrows}
        self.routes = {(line.source, line.target): line for line in layout.lines}
        self.back_in: dict[str, float] = {}
        self.ports = self._ports()

    def y(self, layer: int) -> float:
        return self.top + layer * (TALL + BETWEEN)

    def x(self, name: str) -> float:
        return EDGE + self.layout.middle[name]

    def _ports(self) -> dict[tuple[str, str], float]:
        """Where each line leaves its box: side by side in the order of where they go, each with room for its name.

        Lines that lead back leave at the top, beside those that come in; they arrive at the bottom, at a place of their own.
        """
        ports: dict[tuple[str, str], float] = {}
        for name in self.boxes:
            below: list[tuple[float, float, tuple[str, str] | None]] = []
            above: list[tuple[float, tuple[str, str]]] = []
            for line in self.layout.lines:
                bends = [x + EDGE for x, _ in line.bends]
                if line.source == name and line.back:
                    above.append((bends[0] if bends else self.x(line.target), (name, line.target)))
                elif line.source == name:
                    below.append((bends[0] if bends else self.x(line.target), self.room[name, line.target], (name, line.target)))
                elif line.target == name and line.back and not any(key is None for _, _, key in below):
                    below.append((bends[-1] if bends else self.x(line.source), BACK_IN, None))
            at = self.x(name) - sum(room for _, room, _ in below) / 2
            for _, room, key in sorted(below, key=lambda port: port[0]):
                if key is None:
                    self.back_in[name] = at + room / 2
                else:
                    ports[key] = at + room / 2
                at += room
            for i, (towards, key) in enumerate(sorted(above)):
                side = 1 if towards >= self.x(name) else -1
                ports[key] = self.x(name) + side * (26 + 14 * i)
        return ports

    def draw(self) -> str:
        right = max(
            [self.x(name) + self.widths[name] / 2 for name in self.boxes] + [x + EDGE for line in self.layout.lines for x, _ in line.bends]
        )
        legend, words = self._legend()
        width, height = max(right, words) + EDGE + 20, self.y(self.layout.layers - 1) + TALL + EDGE + 34
        program = self.context.program
        title = program.title or program.flow
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
            f' font-family="Inter, Helvetica, Arial, sans-serif" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">',
            _STYLE,
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
            f'<text x="{EDGE:.0f}" y="{EDGE + 8:.0f}" class="title">{escape(title)}</text>',
            f'<text x="{EDGE:.0f}" y="{EDGE + 26:.0f}" class="small">{escape(program.flow)} · {len(program.steps)} steps</text>',
        ]
        parts += self._lines()
        parts += [self._box(name, box) for name, box in self.boxes.items()]
        parts += [self._name(arrow) for arrow in self.arrows if arrow.label]
        parts.append(f'<g transform="translate(0 {height - EDGE:.0f})">{legend}</g>')
        return "\n".join([*parts, "</svg>", ""])

    def _lines(self) -> list[str]:
        """Failures first, so that they lie under what goes well; a stretch that lines share is drawn once."""
        drawn: list[str] = []
        seen: set[str] = set()
        for arrow in sorted(self.arrows, key=lambda a: not a.failure):
            if arrow.source == arrow.target:
                drawn.append(self._round(arrow))
                continue
            kind = "back" if self.routes[arrow.source, arrow.target].back else "bad" if arrow.failure else "good"
            for piece, last in self._pieces(arrow):
                if f"{kind} {piece}" not in seen:
                    seen.add(f"{kind} {piece}")
                    tip = f' marker-end="url(#{kind})"' if last else ""
                    drawn.append(f'<path class="{kind}" d="{piece}"{tip}/>')
        return drawn

    def _pieces(self, arrow: Arrow) -> list[tuple[str, bool]]:
        """The stretches of a line, the last one with its arrow head."""
        line = self.routes[arrow.source, arrow.target]
        x = self.ports[arrow.source, arrow.target]
        below = -1 if line.back else 1
        y = self.y(self.layout.layer[arrow.source]) + (0 if line.back else TALL)
        start = y + below * (STUB if arrow.label else 6)
        pieces = [(f"M{x:.1f},{y:.1f} V{start:.1f}", False)]
        y = start
        for bend, layer in line.bends:
            enter = self.y(layer) + (TALL if line.back else 0)
            leave = self.y(layer) + (0 if line.back else TALL)
            pieces.append((f"{_curve(x, y, bend + EDGE, enter)} V{leave:.1f}", False))
            x, y = bend + EDGE, leave
        end = self.y(self.layout.layer[arrow.target]) + (TALL + 5 if line.back else -5)
        aim = self.back_in[arrow.target] if line.back else self.x(arrow.target)
        return [*pieces, (_curve(x, y, aim, end), True)]

    def _round(self, arrow: Arrow) -> str:
        """A line from a box to itself, at its right side."""
        x, y = self.x(arrow.source) + self.widths[arrow.source] / 2, self.y(self.layout.layer[arrow.source])
        out = f"M{x:.1f},{y + 42:.1f} C{x + 30:.1f},{y + 50:.1f} {x + 30:.1f},{y + 8:.1f} {x + 5:.1f},{y + 16:.1f}"
        return f'<path class="back" marker-end="url(#back)" d="{out}"/>'

    def _name(self, arrow: Arrow) -> str:
        y = self.y(self.layout.layer[arrow.source])
        kind = "name failure" if arrow.failure else "name"
        if arrow.source == arrow.target:
            x = self.x(arrow.source) + self.widths[arrow.source] / 2 + 6
            return f'<text class="{kind}" x="{x:.1f}" y="{y + 58:.1f}">{escape(arrow.label)}</text>'
        back = self.routes[arrow.source, arrow.target].back
        x = self.ports[arrow.source, arrow.target]
        if back:
            x = min(x, self.x(arrow.source) + self.widths[arrow.source] / 2 - CORNER - text_width(arrow.label, 11) / 2)
        return f'<text class="{kind} middle" x="{x:.1f}" y="{y - 9 if back else y + TALL + 16:.1f}">{escape(arrow.label)}</text>'

    def _box(self, name: str, box: Box) -> str:
        width, x, y = self.widths[name], self.x(name), self.y(self.layout.layer[name])
        fill, stroke = FILL[box.group]
        left = x - width / 2
        round_ = TALL / 2 if box.group in ("end", "entry") else 8
        words = [(box.name, "step"), (box.does, "does"), (box.quote, "quote")]
        lines = [(text, kind) for text, kind in words if text]
        first = y + TALL / 2 + 4.5 - (len(lines) - 1) * 8.5
        step = f' id="step-{name}" data-step="{name}"' if name in self.context.program.steps else ""
        out = [f'<g class="{box.group}"{step}><title>{escape(" | ".join((name, *box.beside)))}</title>']
        out.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{TALL:.0f}" rx="{round_:.0f}" fill="{fill}" stroke="{stroke}"/>'
        )
        if box.group not in ("end", "entry"):
            out.append(f'<rect x="{left:.1f}" y="{y + 8:.1f}" width="4" height="{TALL - 16:.0f}" rx="2" fill="{stroke}"/>')
        out += [
            f'<text class="{kind} middle" x="{x:.1f}" y="{first + i * 17:.1f}">{escape(text)}</text>'
            for i, (text, kind) in enumerate(lines)
        ]
        return "".join([*out, "</g>"])

    def _legend(self) -> tuple[str, float]:
        """What the colours and lines mean, and how far to the right that goes."""
        used = {box.group for box in self.boxes.values()}
        out, x = [], EDGE
        for group, words in WORDS.items():
            if group in used:
                fill, stroke = FILL[group]
                out.append(f'<rect x="{x:.0f}" y="-9" width="12" height="12" rx="3" fill="{fill}" stroke="{stroke}"/>')
                out.append(f'<text class="small" x="{x + 18:.0f}" y="1">{words}</text>')
                x += 34 + text_width(words, 11)
        ways = {
            "back" if a.source == a.target or self.routes[a.source, a.target].back else "bad" if a.failure else "good" for a in self.arrows
        }
        for kind, words in (("good", "goes on"), ("bad", "a failure"), ("back", "a way back")):
            if kind not in ways:
                continue
            out.append(f'<path class="{kind}" d="M{x:.0f},-3 h24"/><text class="small" x="{x + 30:.0f}" y="1">{words}</text>')
            x += 46 + text_width(words, 11)
        return "".join(out), x


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    """From a point to another one, leaving and arriving upright."""
    if abs(x - to_x) < 0.5:
        return f"M{x:.1f},{y:.1f} V{to_y:.1f}"
    half = (to_y - y) * 0.5
    return f"M{x:.1f},{y:.1f} C{x:.1f},{y + half:.1f} {to_x:.1f},{to_y - half:.1f} {to_x:.1f},{to_y:.1f}"


def _tip(name: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        f'<path class="tip {name}" d="M0,0.5 L8,4 L0,7.5 z"/></marker>'
    )


_COLOURS = {"good": "#64748b", "bad": "#e08a8a", "back": "#3b82f6"}
_STYLE = (
    "<style>path{fill:none;stroke-width:1.5}"
    + "".join(f".{name}{{stroke:{colour}}}.tip.{name}{{fill:{colour};stroke:none}}" for name, colour in _COLOURS.items())
    + ".bad{stroke-dasharray:5 4}text{fill:#0f172a}.middle{text-anchor:middle}.title{font-size:18px;font-weight:600}"
    ".small{font-size:11px;fill:#475569}.step{font-size:13px;font-weight:600}.does{font-size:11px;fill:#475569}"
    ".quote{font-size:11px;fill:#64748b;font-style:italic}.name{font-size:11px;fill:#334155;paint-order:stroke;stroke:#fff;stroke-width:4px}"
    ".failure{fill:#b91c1c}.end text{fill:#f8fafc}.lost text{fill:#94a3b8}</style><defs>" + "".join(map(_tip, _COLOURS)) + "</defs>"
)
