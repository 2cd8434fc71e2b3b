"""The longest time until a caller is in line for a person or has heard a goodbye.

It is the longest path from the arrival: every prompt played as long as it may take, every answer at the end of its budget, every try
used up. The wait in a queue is not in it; a queue that has nobody is passed through. Of a way round each step counts once.
"""

from __future__ import annotations

from app.publish.paths import Edge, Path
from app.publish.proofs.findings import Longest, Subject


def longest(subject: Subject) -> Longest:
    """The time and the path; no time where something has no bound."""
    graph = subject.graph
    if graph.components(lambda edge: not edge.effect.act):
        return Longest(None, "")
    best: dict[str, tuple[float, tuple[Edge, ...]]] = {}
    backward = _backward(subject)
    start = graph.arrival
    for name in reversed(_order(subject, start.to, backward)):
        meaning = graph.meanings[name]
        seconds = 0.0
        rest: tuple[Edge, ...] = ()
        for edge in graph.edges[name]:
            if (edge.step, edge.exit) in backward or _waited(subject, edge):
                continue
            after, tail = best[edge.to]
            if not rest or after > seconds:
                seconds, rest = after, (edge, *tail)
        best[name] = (meaning.seconds + seconds, rest)
    seconds, edges = best[start.to]
    return Longest(round(seconds, 1), str(Path((start, *edges))))


def _waited(subject: Subject, edge: Edge) -> bool:
    """Whether an exit comes after the wait for a person, which is where the time ends."""
    return subject.graph.meanings[edge.step].wait == "person" and edge.effect.act == "person"


def _backward(subject: Subject) -> set[tuple[str, str]]:
    """The exits that close a way round, by a walk in the order of the file."""
    graph = subject.graph
    backward: set[tuple[str, str]] = set()
    done: set[str] = set()
    for entry in graph.ways_in:
        if entry.to in done:
            continue
        open_ = {entry.to: iter(graph.edges[entry.to])}
        while open_:
            name = next(reversed(open_))
            for edge in open_[name]:
                if edge.to in open_:
                    backward.add((edge.step, edge.exit))
                elif edge.to not in done:
                    open_[edge.to] = iter(graph.edges[edge.to])
                    break
            else:
                done.add(name)
                del open_[name]
    return backward


def _order(subject: Subject, start: str, backward: set[tuple[str, str]]) -> list[str]:
    """The steps behind `start`, each before those that follow it."""
    graph = subject.graph
    order: list[str] = []
    seen = {start}
    work = [(start, iter(graph.edges[start]))]
    while work:
        name, edges = work[-1]
        for edge in edges:
            if (edge.step, edge.exit) not in backward and edge.to not in seen:
                seen.add(edge.to)
                work.append((edge.to, iter(graph.edges[edge.to])))
                break
        else:
            order.append(name)
            work.pop()
    return order[::-1]
