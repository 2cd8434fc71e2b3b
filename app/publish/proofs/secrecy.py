"""What is marked sensitive reaches nothing but the parameters of actions.

Sensitive are the attributes that an action file names under `run.sensitive`, and the keys of a `collect` step with
`sensitive: true`. A value made of a sensitive one (`set`) is sensitive. It may not decide a routing, nor be spoken, sent, or shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.publish.graph import Edge, Explored, Path
from app.publish.meaning import Exit, Use
from app.publish.proofs.findings import Finding, Subject

SINKS: dict[Use, str] = {
    "condition": "decides by it where the call goes",
    "skills": "routes by it",
    "prompt": "speaks it",
    "message": "sends it in a message",
    "number": "dials by it",
    "attach": "shows it to the agent",
}


def leaked(subject: Subject) -> Iterator[Finding]:
    """Reads of sensitive values where they must not be read.

    Each is shown by the shortest path from where the value came from; where there is none, by one on which an error takes the call,
    with all it holds, from some step to the flow's error step.
    """
    graph = subject.graph
    reachable = graph.reachable()
    edges = [graph.arrival, *(edge for edge in graph.all_edges() if edge.step in reachable)]
    sources = [(edge, variable) for edge in edges for variable in sorted(edge.effect.taints)]
    if not sources:
        return
    held = Explored(graph, sources, _follow)
    held_after_errors = Explored(graph, sources, _follow, (Edge("", "an error", graph.trouble.effect),))
    told: set[tuple[object, str]] = set()
    for name, meaning in graph.meanings.items():
        for read in meaning.reads:
            key = (name, read.variable)
            explored = held if key in held.reached else held_after_errors
            path = explored.path(*key)
            if read.use not in SINKS or path is None or (read.where, read.variable) in told:
                continue
            told.add((read.where, read.variable))
            source = explored.origin(*key)
            made = "" if read.variable == source else f" made of {source}, which is"
            way = graph.path_to(path.edges[0].step) or Path(())
            what = f"{read.variable} is{made} sensitive, and this step {SINKS[read.use]}"
            yield subject.finding("leaked", read.where, what, Path((*way.edges, *path.edges)))


def _follow(edge: Edge, held: str) -> list[str]:
    return carried(edge.effect, held)


def carried(effect: Exit, held: str) -> list[str]:
    """The variables that hold a sensitive value after an exit, when `held` did before."""
    copied = [to for to, made_of in effect.copies.items() if held in made_of]
    gone = held in effect.sets or held.startswith(effect.clears)
    return copied if gone else [held, *copied]
