"""What a picture of a flow shows, whoever draws it: a box for each step, an arrow for each way from one to another.

`outline` writes it as text for a terminal, `mermaid` as text for pages that draw it themselves; `drawing.py` draws it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from xml.sax.saxutils import escape

from app.core.flow.program import Automation
from app.publish.graph import ARRIVAL, REACH, RETURN, TROUBLE, Edge, Graph
from app.publish.meaning import Context

Group = Literal["speech", "system", "choice", "person", "end", "entry", "lost"]
GROUPS: dict[str, Group] = {
    "say": "speech",
    "collect": "speech",
    "menu": "speech",
    "confirm": "speech",
    "language": "speech",
    "lookup": "system",
    "action": "system",
    "gather": "system",
    "email": "system",
    "sms": "system",
    "bot": "system",
    "wait_for": "system",
    "queue": "person",
    "transfer": "person",
    "record": "person",
    "voicemail": "person",
    "callback": "person",
    "hangup": "end",
    "release": "end",
}
FILL: dict[Group, tuple[str, str]] = {
    "speech": ("#eff6ff", "#3b82f6"),
    "system": ("#f5f3ff", "#8b5cf6"),
    "choice": ("#fffbeb", "#d97706"),
    "person": ("#ecfdf5", "#059669"),
    "end": ("#334155", "#334155"),
    "entry": ("#ffffff", "#334155"),
    "lost": ("#f1f5f9", "#cbd5e1"),
}
WORDS: dict[Group, str] = {
    "speech": "the caller hears or presses",
    "system": "another system is asked",
    "choice": "the flow decides",
    "person": "a person",
    "end": "the end",
    "lost": "nobody comes here",
}
QUOTE = 34
"""Letters of what a step says that are shown."""


@dataclass(frozen=True, slots=True)
class Box:
    """What is written in a box, and what is asked beside this step."""

    name: str
    does: str
    quote: str
    group: Group
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrow:
    """All exits from one step to another as one line: their names, and whether all of them are failures."""

    source: str
    target: str
    label: str
    failure: bool


def sketch(context: Context) -> tuple[dict[str, Box], list[Arrow]]:
    """The boxes by the name of their step, and the arrows; ways in are boxes too."""
    graph = Graph(context)
    reachable = graph.reachable()
    boxes: dict[str, Box] = {}
    arrows: list[Arrow] = []
    numbers = ", ".join(context.program.dnis) or "no number"
    for way, does in ((graph.arrival, numbers), *((edge, "") for edge in graph.entries[1:])):
        boxes[way.step] = Box(_ENTRY.get(way.step, way.step), does, "", "entry")
        arrows.append(Arrow(way.step, way.to, "", False))
    for name, node in context.program.steps.items():
        group: Group = "lost" if name not in reachable else GROUPS.get(node.do, "choice")
        beside = tuple(asked_beside(each) for each in context.program.automations if each.at == name)
        boxes[name] = Box(name, _does(node), _quote(context, node), group, beside)
    reach = getattr(context.program, "reach_a_person", None)
    if reach is not None:
        boxes[REACH] = Box(f"key {reach.key}", "from any step", "", "entry")
        arrows.append(Arrow(REACH, reach.step, "", False))
    boxes[TROUBLE] = Box(_ENTRY[TROUBLE], "", "", "entry")
    arrows.append(Arrow(TROUBLE, graph.trouble.to, "", False))
    for name, edges in graph.edges.items():
        arrows += _joined(graph, name, edges)
    return boxes, arrows


_ENTRY = {ARRIVAL: "arrival", RETURN: "return", TROUBLE: "error"}


def _joined(graph: Graph, name: str, edges: Iterable[Edge]) -> list[Arrow]:
    """One line for all exits to the same step."""
    by_target: dict[str, list[str]] = {}
    for edge in edges:
        if edge.exit != REACH:
            by_target.setdefault(edge.to, []).append(edge.exit)
    bad = {"failed", *graph.meanings[name].failures}
    return [Arrow(name, to, _label(exits), all(exit_ in bad for exit_ in exits)) for to, exits in by_target.items()]


def _label(exits: list[str]) -> str:
    """The exits of a line as it names them; the only exit of a step that goes on needs no name."""
    shown = [exit_.removeprefix("case ") for exit_ in exits]
    return "" if shown == ["done"] else ", ".join(shown)


def asked_beside(automation: Automation) -> str:
    """An automation in a few words."""
    into = f" into {automation.into}" if automation.into else ""
    return f"{automation.on.replace('_', ' ')}: {automation.action}{into}{f' when {automation.when}' if automation.when else ''}"


def _does(node: Any) -> str:
    what = next((named for key in ("queue", "action", "bot", "prompt", "context") if (named := getattr(node, key, ""))), "")
    if node.do in ("hangup", "release"):
        return str(node.do)
    return f"{node.do} {what}".rstrip()


def _quote(context: Context, node: Any) -> str:
    """The first words of what a step says."""
    prompt = getattr(node, "prompt", None) or getattr(node, "mask", None)
    spoken = " ".join(context.versions(prompt)[0]) if prompt else ""
    if not spoken:
        return ""
    return f"“{spoken}”" if len(spoken) <= QUOTE else f"“{spoken[:QUOTE].rstrip()}…”"


def mermaid(context: Context) -> str:
    """The flow as Mermaid's text."""
    boxes, arrows = sketch(context)
    ids = {name: f"s{i}" for i, name in enumerate(boxes)}
    lines = ["flowchart TD"]
    for name, box in boxes.items():
        words = "<br/>".join(_mermaid_text(part) for part in (box.name, box.does, *box.beside) if part)
        shape = {"end": ("([", "])"), "entry": ("((", "))"), "choice": ("{{", "}}")}.get(box.group, ("[", "]"))
        lines.append(f'    {ids[name]}{shape[0]}"{words}"{shape[1]}:::is_{box.group}')
    for arrow in arrows:
        line = "-.->" if arrow.failure else "-->"
        label = f'|"{_mermaid_text(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    {ids[arrow.source]} {line}{label} {ids[arrow.target]}")
    for group, (fill, stroke) in FILL.items():
        lines.append(f"    classDef is_{group} fill:{fill},stroke:{stroke},color:{'#fff' if group == 'end' else '#0f172a'}")
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    return escape(text, {'"': "#quot;"})


def outline(context: Context) -> str:
    """The flow as text: each step with what it does and where it leads."""
    boxes, arrows = sketch(context)
    leaving: dict[str, list[Arrow]] = {name: [] for name in boxes}
    for arrow in arrows:
        leaving[arrow.source].append(arrow)
    lines: list[str] = []
    for name, box in boxes.items():
        lost = "   (no call comes here)" if box.group == "lost" else ""
        lines.append("  ".join(part for part in (box.name, box.does, box.quote) if part) + lost)
        lines += [f"    beside, {beside}" for beside in box.beside]
        lines += [f"    {arrow.label + ' ' if arrow.label else ''}-> {arrow.target}" for arrow in leaving[name]]
    lines += [f"beside every step, {asked_beside(each)}" for each in context.program.automations if each.at is None]
    return "\n".join(lines) + "\n"
