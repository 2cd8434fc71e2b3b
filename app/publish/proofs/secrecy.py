"""What is marked sensitive reaches nothing but the parameters of actions.

Sensitive are the attributes that an action file names under `run.sensitive`, and the keys of a `collect` step with
`sensitive: true`. A value made of a sensitive one (`set`) is sensitive. It may not decide a routing, nor be spoken, sent, or shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.publish.graph import Edge, Path, search
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
    """Reads of sensitive values where they must not be read."""
    graph = subject.graph
    sources = [(edge, variable) for edge in (graph.arrival, *graph.all_edges()) for variable in sorted(edge.effect.taints)]
    if not sources:
        return
    told: set[tuple[object, str]] = set()
    for name, meaning in graph.meanings.items():
        for read in meaning.reads:
            if read.use not in SINKS or (read.where, read.variable) in told:
                continue
            for source, variable in sources:
                flow = _flow(subject, source, variable, name, read.variable)
                if flow is None:
                    continue
                told.add((read.where, read.variable))
                named = (
                    f"{read.variable} is sensitive"
                    if read.variable == variable
                    else f"{read.variable} is made of {variable}, which is sensitive"
                )
                yield subject.finding("leaked", read.where, f"{named}, and this step {SINKS[read.use]}", flow)
                break


def _flow(subject: Subject, source: Edge, variable: str, sink: str, read: str) -> Path | None:
    """The shortest path on which what `variable` got at the source is in `read` when the sink is entered.

    Where there is none, one on which an error takes the call, with all it holds, from some step to the flow's error step.
    """
    graph = subject.graph
    way = graph.path_to(source.step) or Path(())
    starts = [(source, variable)]
    for anywhere in ((), (Edge("", "an error", graph.trouble.effect),)):
        path = search(
            graph,
            starts,
            lambda edge, held: carried(edge.effect, held),
            lambda name, held: name == sink and held == read,
            anywhere,
        )
        if path and (way.edges or source is graph.arrival):
            return Path((*way.edges, *path.edges))
    return None


def carried(effect: Exit, held: str) -> list[str]:
    """The variables that hold a sensitive value after an exit, when `held` did before."""
    copied = [to for to, made_of in effect.copies.items() if held in made_of]
    gone = held in effect.sets or held.startswith(effect.clears)
    return copied if gone else [held, *copied]
