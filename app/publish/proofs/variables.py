"""No variable is read before every path has set it.

Variables of the call itself are always set. A record's are set after the exit `found` of its lookup, or where a condition asked
`found` first; an action's after `done`; collected keys after `match`; `ivr.*`, which other systems write when they like, only
where a condition has asked whether it is there. A field under `attach` may be empty, and is only wrong where no path sets it.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.publish.graph import Edge, Path, search
from app.publish.meaning import Exit, Read
from app.publish.proofs.findings import Finding, Subject

HOW = {
    "prompt": "the prompt says {variable}",
    "condition": "the condition asks {variable}",
    "skills": "the skills come from {variable}",
    "parameter": "the request needs {variable}",
    "attach": "{variable} goes to the agent",
    "message": "the message says {variable}",
    "number": "the number that is dialled comes from {variable}",
    "value": "the value is made of {variable}",
}


def unset(subject: Subject) -> Iterator[Finding]:
    """Reads of variables that some path has not set; for `attach`, that no path has set."""
    told: set[tuple[object, str]] = set()
    for name, meaning in subject.graph.meanings.items():
        for read in meaning.reads:
            variable = read.variable.rstrip(".")
            if (read.where, variable) in told:
                continue
            finding = _unset(subject, name, read)
            if finding:
                told.add((read.where, variable))
                yield finding


def _unset(subject: Subject, name: str, read: Read) -> Finding | None:
    how = HOW[read.use].format(variable=_shown(read.variable))
    if read.forgotten:
        path = subject.graph.path_to(name)
        what = f"{how}, which this very step forgets before it asks anew"
        return subject.finding("unset", read.where, what, path) if path else None
    if read.must:
        path = without(subject, name, read.variable)
        return subject.finding("unset", read.where, f"{how}, which has no value on this path", path) if path else None
    if read.use == "attach" and never(subject, name, read.variable):
        return subject.finding("unset", read.where, f"{how}, which no path has set before this step", subject.graph.path_to(name))
    return None


def without(subject: Subject, step: str, variable: str) -> Path | None:
    """The shortest path to a step on which a variable is not set; None where it always is."""
    starts = [(edge, _at_first(subject, variable)) for edge in subject.graph.ways_in]

    def follow(edge: Edge, known: bool) -> list[bool]:
        return [after(edge.effect, variable, known)]

    return search(subject.graph, starts, follow, lambda name, known: name == step and not known)


def never(subject: Subject, step: str, variable: str) -> bool:
    """Whether no path to a step sets a variable; the step that is gone to after an error may have any that was set before."""
    if _at_first(subject, variable) or variable.startswith("ivr."):
        return False
    if any(_sets(edge.effect, variable) for edge in subject.graph.all_edges()) and _after_trouble(subject, step):
        return False
    starts = [(edge, _at_first(subject, variable)) for edge in subject.graph.entries]

    def follow(edge: Edge, known: bool) -> list[bool]:
        return [after(edge.effect, variable, known)]

    reached = search(subject.graph, starts, follow, lambda name, known: name == step)
    return bool(reached) and search(subject.graph, starts, follow, lambda name, known: name == step and known) is None


def after(effect: Exit, variable: str, known: bool) -> bool:
    """Whether a variable is surely set after an exit, when it was or was not before."""
    if _sets(effect, variable):
        return True
    return known and not (variable.startswith(effect.clears))


def _sets(effect: Exit, variable: str) -> bool:
    given = effect.sets | effect.implies
    if variable.endswith("."):
        return any(name.startswith(variable) for name in given)
    return variable in given


def _at_first(subject: Subject, variable: str) -> bool:
    known = subject.graph.context.at_first
    return any(name.startswith(variable) for name in known) if variable.endswith(".") else variable in known


def _after_trouble(subject: Subject, step: str) -> bool:
    return bool(search(subject.graph, [(subject.graph.trouble, None)], lambda edge, state: [state], lambda name, state: name == step))


def _shown(variable: str) -> str:
    return f"something of {variable}*" if variable.endswith(".") else variable
