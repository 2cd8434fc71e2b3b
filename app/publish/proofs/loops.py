"""Every step can be come to, and nobody goes round for ever.

A way round is allowed where each round needs somebody: a key that the caller presses, or a person who is waited for in a queue.
What only needs time or another system is no bound: a caller who lays the telephone down presses nothing and leaves every menu
by `no_input`, and a system that is down fails each time it is asked. Bounded repeats belong in `tries`.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.publish.graph import Edge
from app.publish.proofs.findings import Finding, Loop, Subject

WHY = {
    "caller": "each round needs a key of the caller, at {step} ({exit})",
    "person": "each round waits for a person, at {step} ({exit})",
}


def unreachable(subject: Subject) -> Iterator[Finding]:
    """Steps that no call can come to."""
    reachable = subject.graph.reachable()
    for name in subject.graph.edges:
        if name not in reachable:
            what = "no call can come to this step: no path from the arrival, the return or the error step leads here"
            yield subject.finding("unreachable", ("steps", name), what)


def endless(subject: Subject) -> Iterator[Finding]:
    """Ways round on which nobody has to do anything."""
    graph = subject.graph
    for component in graph.components(_alone):
        round_ = min((p for name in component if (p := graph.cycle(name, component, _alone))), key=lambda p: len(p.edges))
        first = round_.edges[0].step
        way = graph.path_to(first)
        what = f"a call can go round here for ever, with nobody doing anything: {round_}{_hint(subject, round_.edges)}"
        yield subject.finding("endless", ("steps", first), what, way)


def allowed(subject: Subject) -> Iterator[Loop]:
    """The ways round that somebody bounds."""
    graph = subject.graph
    seen: set[frozenset[tuple[str, str]]] = set()
    for component in graph.components(lambda edge: True):
        for name in component:
            for edge in graph.edges[name]:
                if not edge.effect.act or edge.to not in component:
                    continue
                round_ = graph.cycle(name, component, lambda edge: True, through=edge)
                if round_ and (turn := frozenset((e.step, e.exit) for e in round_.edges)) not in seen:
                    seen.add(turn)
                    yield Loop(str(round_), WHY[edge.effect.act].format(step=name, exit=edge.exit))


def _alone(edge: Edge) -> bool:
    """Whether an exit is taken without anybody doing anything for it."""
    return not edge.effect.act


def _hint(subject: Subject, edges: tuple[Edge, ...]) -> str:
    silent = next((edge for edge in edges if subject.graph.meanings[edge.step].wait == "caller"), None)
    if silent:
        return f" (a caller who presses nothing leaves {silent.step} by {silent.exit} each time; repeat within the step by tries)"
    asked = next((edge for edge in edges if subject.graph.meanings[edge.step].wait == "system"), None)
    return f" (a system that does not answer lets {asked.step} end by {asked.exit} each time)" if asked else ""
