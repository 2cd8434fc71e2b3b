"""What changes another system and could be done twice is named.

An action without an idempotency key (`run.idempotency`) is done twice when this process dies between asking and hearing the
answer, since the next one asks again; and when a path comes to it twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.publish.graph import Edge, Path, search
from app.publish.proofs.findings import Finding, Subject


def repeated(subject: Subject) -> Iterator[Finding]:
    """Steps with an action that could take effect twice."""
    graph = subject.graph
    for name, node in graph.program.steps.items():
        action = getattr(node, "action", "")
        asked = graph.context.actions.get(action)
        if asked is None or not asked.writes or asked.idempotent:
            continue
        again = _again(subject, name, action)
        why = "this path comes to it twice" if again else "it is asked again when this process dies before the answer"
        what = f"{action} may take effect twice: {why}; declare run.idempotency where the other system knows repeats"
        yield subject.finding("repeated", ("steps", name, "action"), what, again or graph.path_to(name), "warning")
    yield from _automations(subject)


def _automations(subject: Subject) -> Iterator[Finding]:
    """The same for what is asked beside the steps."""
    graph = subject.graph
    for i, automation in enumerate(graph.program.automations):
        asked = graph.context.actions.get(automation.action)
        if asked is None or not asked.writes or asked.idempotent:
            continue
        step = automation.at if automation.on in ("entered", "left") else None
        way = graph.path_to(step) if step else None
        again = graph.cycle(step, graph.edges, lambda edge: True) if step else None
        if not again and not automation.into:
            continue
        why = "this path comes to it twice" if again else "it is asked again when this process dies before the answer"
        what = f"{automation.action} may take effect twice: {why}; declare run.idempotency where the other system knows repeats"
        path = Path((*way.edges, *again.edges)) if way and again else way
        yield subject.finding("repeated", ("automations", i, "action"), what, path, "warning")


def _again(subject: Subject, name: str, action: str) -> Path | None:
    """The shortest path from the arrival by a step to a step with the same action."""
    graph = subject.graph
    same = {other for other, node in graph.program.steps.items() if getattr(node, "action", "") == action}

    def follow(edge: Edge, been: bool) -> list[bool]:
        return [been or edge.step == name]

    return search(graph, [(edge, False) for edge in graph.entries], follow, lambda step, been: been and step in same)
