"""No variable is read before every path has set it.

Variables of the call itself are always set. A record's are set after the exit `found` of its lookup, or where a condition asked
`found` first; an action's after `done`; collected keys after `match`; `ivr.*`, which other systems write when they like, only
where a condition has asked whether it is there. A field under `attach` may be empty, and is only wrong where no path sets it.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.publish.graph import Explored, Graph, Path, passes, walk
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
    "automation": "the automation needs {variable}",
}


def unset(subject: Subject) -> Iterator[Finding]:
    """Reads of variables that some path has not set; for `attach`, that no path has set."""
    known = _Known(subject)
    told: set[tuple[object, str]] = set()
    for name, meaning in subject.graph.meanings.items():
        for read in meaning.reads:
            variable = read.variable.rstrip(".")
            if (read.where, variable) in told:
                continue
            finding = _unset(subject, known, name, read)
            if finding:
                told.add((read.where, variable))
                yield finding
    yield from _automations(subject, known)


def _automations(subject: Subject, known: _Known) -> Iterator[Finding]:
    """What is asked beside a step needs what no path has set by then, and so would never be asked."""
    graph = subject.graph
    for i, automation in enumerate(graph.program.automations):
        step = automation.at
        if step is None:
            continue
        leaving = [edge for edge in graph.all_edges() if automation.on == "left" and passes(automation, edge)]
        for key, text in automation.parameters.items():
            for read in graph.context.text(text, ("automations", i, "with", key), "automation"):
                if read.must and known.never(step, read.variable) and not any(_sets(edge.effect, read.variable) for edge in leaving):
                    what = f"{HOW[read.use].format(variable=_shown(read.variable))}, which no path has set by then"
                    yield subject.finding("unset", read.where, what, graph.path_to(step))


def _unset(subject: Subject, known: _Known, name: str, read: Read) -> Finding | None:
    how = HOW[read.use].format(variable=_shown(read.variable))
    if read.forgotten:
        path = subject.graph.path_to(name)
        what = f"{how}, which this very step forgets before it asks anew"
        return subject.finding("unset", read.where, what, path) if path else None
    if read.must:
        path = known.path_without(name, read.variable)
        return subject.finding("unset", read.where, f"{how}, which has no value on this path", path) if path else None
    if read.use == "attach" and known.never(name, read.variable):
        return subject.finding("unset", read.where, f"{how}, which no path has set before this step", subject.graph.path_to(name))
    return None


class _Known:
    """For each variable, the steps that can be come to with it and without it."""

    def __init__(self, subject: Subject) -> None:
        self._graph = subject.graph
        self._explored: dict[str, Explored[bool]] = {}
        trouble = subject.graph.trouble
        self._after_trouble = {edge.to for edge in walk(subject.graph, [trouble], lambda edge: True)}

    def path_without(self, step: str, variable: str) -> Path | None:
        """The shortest path to a step on which a variable is not set; None where it always is."""
        return self._of(variable).path(step, False)

    def never(self, step: str, variable: str) -> bool:
        """Whether no path to a step sets a variable. The step that is gone to after an error may have any that is set anywhere."""
        if variable.startswith("ivr.") or (step, True) in self._of(variable).reached or (step, False) not in self._of(variable).reached:
            return False
        return step not in self._after_trouble or not any(_sets(edge.effect, variable) for edge in self._graph.all_edges())

    def _of(self, variable: str) -> Explored[bool]:
        if variable not in self._explored:
            first = at_first(self._graph, variable)
            starts = [(edge, first) for edge in self._graph.ways_in]
            self._explored[variable] = Explored(self._graph, starts, lambda edge, known: [after(edge.effect, variable, known)])
        return self._explored[variable]


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


def at_first(graph: Graph, variable: str) -> bool:
    """Whether every call has a variable from its beginning."""
    known = graph.context.at_first
    return any(name.startswith(variable) for name in known) if variable.endswith(".") else variable in known


def _shown(variable: str) -> str:
    return f"something of {variable}*" if variable.endswith(".") else variable
