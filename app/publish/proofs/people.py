"""Nobody is left alone: what fails ends with a person or a goodbye, and nobody waits in silence.

A person is an agent who was talked to, or the dialplan's own queue, to which a released call goes. A queue that has nobody, or in
which the caller waited for too long, is no person: that path goes on. A goodbye is a prompt that is heard before the call is hung up.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.publish.graph import Edge, Path, search
from app.publish.proofs.findings import Finding, Subject

PATIENCE = 1.5
"""Seconds without a sound that a caller may be left."""


def forsaken(subject: Subject) -> Iterator[Finding]:
    """Failures after which a call is hung up without a person and without a word."""
    graph = subject.graph
    causes = [
        (edge, f"when {meaning.fails_of or name} ends in {edge.exit}, a call can be hung up with no person and no goodbye")
        for name, meaning in graph.meanings.items()
        for edge in graph.edges[name]
        if edge.exit in meaning.failures
    ]
    causes.append((graph.trouble, "after an error in the flow a call can be hung up with no person and no goodbye"))
    for cause, what in causes:
        end = _hung_up_unheard(subject, cause)
        if end is None:
            continue
        way = graph.path_to(cause.step) if cause is not graph.trouble else None
        yield subject.finding("forsaken", cause.effect.where, what, Path((*way.edges, *end.edges)) if way else end)


def _hung_up_unheard(subject: Subject, cause: Edge) -> Path | None:
    graph = subject.graph

    def follow(edge: Edge, state: None) -> list[None]:
        spoke = graph.meanings[edge.step].says and graph.meanings[edge.step].wait == ""
        return [] if spoke or edge.effect.person else [state]

    return search(graph, [(cause, None)], follow, lambda name, state: _ends(subject, name))


def silent(subject: Subject) -> Iterator[Finding]:
    """Waits without a sound, and calls that are ended without a word."""
    yield from _waits(subject)
    yield from _rings(subject)
    yield from _prompts(subject)
    yield from _endings(subject)


def _waits(subject: Subject) -> Iterator[Finding]:
    for name, meaning in subject.graph.meanings.items():
        if meaning.silence > PATIENCE:
            what = f"the caller may wait {meaning.silence:g} s here without a sound; {PATIENCE:g} s at most"
            yield subject.finding("silent", ("steps", name), what, subject.graph.path_to(name))


def _rings(subject: Subject) -> Iterator[Finding]:
    """An unanswered call hears nothing of ours, and nothing tells its network to ring."""
    graph = subject.graph
    for name, meaning in graph.meanings.items():
        if meaning.ring <= PATIENCE:
            continue
        follow = lambda edge, answered: [answered or graph.meanings[edge.step].answers]  # noqa: E731
        path = search(graph, [(graph.arrival, False)], follow, lambda n, answered: n == name and not answered)  # noqa: B023
        if path:
            what = f"the call is not answered yet and may hear nothing for {meaning.ring:g} s; {PATIENCE:g} s at most"
            yield subject.finding("silent", ("steps", name, "ring"), what, path)


def _prompts(subject: Subject) -> Iterator[Finding]:
    """Keys are waited for after a prompt that has no sound."""
    for name, meaning in subject.graph.meanings.items():
        for key in meaning.empty:
            what = "this prompt may have no sound, and then keys are waited for in silence; it needs words that are always there"
            yield subject.finding("silent", ("steps", name, key), what, subject.graph.path_to(name))


def _endings(subject: Subject) -> Iterator[Finding]:
    """A call is hung up that has heard not one word."""
    graph = subject.graph
    for name in graph.edges:
        if not _ends(subject, name):
            continue

        def follow(edge: Edge, state: None) -> list[None]:
            meaning = graph.meanings[edge.step]
            return [] if meaning.says or edge.effect.person else [state]

        path = search(graph, [(graph.arrival, None)], follow, lambda n, state: n == name)  # noqa: B023
        if path:
            yield subject.finding("silent", ("steps", name), "a call is hung up here that has not heard a word", path)


def _ends(subject: Subject, name: str) -> bool:
    """Whether the flow ends at a step, and not in somebody's hands."""
    return not subject.graph.edges[name] and not subject.graph.meanings[name].person
