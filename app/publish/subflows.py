"""Subflows put in where they are run: the interpreter knows nothing of them but a step that leads in.

A flow file may have `subflows:`, each with a `start`, its named `exits` and its `steps`; a step that wants to go back names
`exit.<name>` as the one that follows. For a step `who: {do: subflow, run: identify, exits: {...}}` the steps of `identify` become
`who.<step>`, and what they name as `exit.<name>` becomes the step that `who` has for that exit. A subflow may run another, never itself.
Subflows in files of their own are among the flow's by then (`app.publish.shared`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from app.core.flow.words import unknown
from app.yamlfile import Document, Place

MAX_STEPS = 500
EXIT = "exit."
KEYS = frozenset({"start", "exits", "steps"})


def inlined(content: Mapping[str, Any], document: Document, others: Iterable[str] = ()) -> tuple[dict[str, Any], list[tuple[Place, str]]]:
    """The content of a flow file without `subflows`, their steps among its own, and what is wrong with any, by its place in the file.

    `others` are names of subflows that could be run as well, for whoever misspells one.
    """
    work = _Work(content, document, others)
    flow = {key: value for key, value in content.items() if key != "subflows"}
    if isinstance(content.get("steps"), Mapping):
        flow["steps"] = work.steps
        for name, step in content["steps"].items():
            work.put(name, step, ("steps", name), lambda target, _: target, ())
    for name in work.subflows.keys() - work.ran:
        work.problems.append((("subflows", name), "no step runs this subflow"))
    return flow, work.problems


def put_in(name: str, step: Mapping[str, Any], steps: Container[Any]) -> bool:
    """Whether a `subflow` step has its steps among these already, as in a program that was published once."""
    exits = step.get("exits")
    begin = exits.get("begin") if isinstance(exits, Mapping) and len(exits) == 1 else None
    return isinstance(begin, str) and begin.startswith(f"{name}.") and begin in steps


class _Work:
    def __init__(self, content: Mapping[str, Any], document: Document, others: Iterable[str]) -> None:
        self.steps: dict[str, Any] = {}
        self.problems: list[tuple[Place, str]] = []
        self.ran: set[str] = set()
        self._document, self._others = document, others
        self._own = content["steps"] if isinstance(content.get("steps"), Mapping) else {}
        self.subflows: dict[str, Mapping[str, Any]] = {}
        given = content.get("subflows", {})
        if not isinstance(given, Mapping):
            self.problems.append((("subflows",), "not a map of names to subflows"))
            return
        for name, subflow in given.items():
            if self._sound(("subflows", name), subflow):
                self.subflows[name] = subflow

    def _sound(self, place: Place, subflow: Any) -> bool:
        """Whether a subflow has what each has to have."""
        before = len(self.problems)
        if not isinstance(subflow, Mapping) or set(subflow) != KEYS:
            self.problems.append((place, "a subflow has start, exits and steps, and nothing else"))
        elif not isinstance(subflow["exits"], list) or not all(isinstance(name, str) for name in subflow["exits"]):
            self.problems.append(((*place, "exits"), "not a list of names"))
        elif not isinstance(subflow["steps"], Mapping):
            self.problems.append(((*place, "steps"), "not a map of names to steps"))
        elif subflow["start"] not in subflow["steps"]:
            self.problems.append(((*place, "start"), unknown("step", str(subflow["start"]), subflow["steps"])))
        return len(self.problems) == before

    def put(self, name: str, step: Any, place: Place, leads: Callable[[str, Place], str], within: tuple[str, ...]) -> None:
        """Put in one step, written at `place`, under a name; `leads` turns what it names as the next step into that step's name."""
        if len(self.steps) >= MAX_STEPS:
            if len(self.steps) == MAX_STEPS:
                self.problems.append((place, f"more than {MAX_STEPS} steps, those of subflows included"))
                self.steps[name] = step
            return
        self._document.repeat(("steps", name), place)
        if not isinstance(step, Mapping):
            self.steps[name] = step
            return
        self.steps[name] = step = _redirected(step, place, leads)
        if step.get("do") == "subflow" and not put_in(name, step, self._own):
            self._run(name, step, place, within)

    def _run(self, name: str, step: dict[str, Any], place: Place, within: tuple[str, ...]) -> None:
        run, exits = str(step.get("run")), step.get("exits", {})
        subflow = self.subflows.get(run)
        self.ran.add(run)
        if run in within:
            self.problems.append(((*place, "run"), f"a subflow cannot run itself: {' -> '.join((*within[within.index(run) :], run))}"))
        elif subflow is None:
            self.problems.append(((*place, "run"), unknown("subflow", run, dict.fromkeys((*self.subflows, *self._others)))))
        elif not isinstance(exits, Mapping) or set(exits) != set(subflow["exits"]):
            given = ", ".join(exits) if isinstance(exits, Mapping) else ""
            wanted = ", ".join(subflow["exits"]) or "none"
            self.problems.append(((*place, "exits"), f"subflow {run!r} has the exits: {wanted} (found: {given or 'none'})"))
        elif not within and (lost := [key for key, target in exits.items() if target not in self._own]):
            self.problems += [((*place, "exits", key), unknown("step", str(exits[key]), self._own)) for key in lost]
        else:
            step["exits"] = {"begin": f"{name}.{subflow['start']}"}
            for inner, what in subflow["steps"].items():
                leads = self._leading(name, run, exits)
                self.put(f"{name}.{inner}", what, ("subflows", run, "steps", inner), leads, (*within, run))
            return
        self.steps[name] = {**step, "exits": {"begin": name}}

    def _leading(self, name: str, run: str, exits: Mapping[str, str]) -> Callable[[str, Place], str]:
        inner = self.subflows[run]["steps"]

        def leads(target: str, place: Place) -> str:
            if target.startswith(EXIT):
                if target.removeprefix(EXIT) in exits:
                    return exits[target.removeprefix(EXIT)]
                self.problems.append((place, unknown("exit", target.removeprefix(EXIT), exits)))
            elif target in inner:
                return f"{name}.{target}"
            else:
                self.problems.append((place, unknown("step", target, inner)))
            return name

        return leads


def _redirected(step: Mapping[str, Any], place: Place, leads: Callable[[str, Place], str]) -> dict[str, Any]:
    """A step with other names for those that follow it."""
    out = dict(step)
    for group in ("exits", "choices", "cases"):
        if not isinstance(step.get(group), Mapping):
            continue
        out[group] = {}
        for key, target in step[group].items():
            where = (*place, group, key)
            if isinstance(target, str):
                out[group][key] = leads(target, where)
            elif isinstance(target, Mapping) and isinstance(target.get("to"), str):
                out[group][key] = {**target, "to": leads(target["to"], (*where, "to"))}
            else:
                out[group][key] = target
    return out
