"""The longest time until a caller is in line for a person or has heard a goodbye.

It is the longest path from the arrival: every prompt played as long as it may take, every answer at the end of its budget, every try
used up. The wait in a queue is not in it; a queue that has nobody is passed through. Ways round are not taken: each round needs
somebody to want it.
"""

from __future__ import annotations

from app.publish.graph import Edge, Path
from app.publish.proofs.findings import Longest, Subject

Best = tuple[float, tuple[Edge, ...]]


def longest(subject: Subject) -> Longest:
    """The time and the path; no time where something has no bound, or no path ends."""
    graph = subject.graph
    if graph.components(lambda edge: not edge.effect.act):
        return Longest(None, "")
    best: dict[str, Best | None] = {}
    backward = _backward(subject)
    for name in reversed(_order(subject, graph.arrival.to, backward)):
        ends = not graph.edges[name] or any(edge.effect.person for edge in graph.edges[name])
        rest: Best | None = (0.0, ()) if ends else None
        for edge in graph.edges[name]:
            after = best.get(edge.to)
            if after is None or (edge.step, edge.exit) in backward or _waited(subject, edge):
                continue
            if rest is None or after[0] > rest[0] or not rest[1]:
                rest = (after[0], (edge, *after[1]))
        best[name] = (graph.meanings[name].seconds + rest[0], rest[1]) if rest else None
    found = best[graph.arrival.to]
    return Longest(round(found[0], 1), str(Path((graph.arrival, *found[1])))) if found else Longest(None, "")


def _waited(subject: Subject, edge: Edge) -> bool:
    """Whether an exit comes after the wait for a person, or after one, which is where the time ends."""
    return edge.effect.person or (subject.graph.meanings[edge.step].wait == "person" and edge.effect.act == "person")


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
