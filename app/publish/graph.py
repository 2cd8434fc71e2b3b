"""A flow as a graph, and paths through it in plain words.

The graph has the exits of every step, and the ways in: the arrival, the return from the fallback, the entries to which other systems
may send a call, and the step that a call goes to when something in its flow goes wrong. Everything is in the order of the file, so that
equal files give equal paths.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from app.core.flow.part import around
from app.core.flow.program import Automation
from app.publish.guards import Names
from app.publish.kinds import meanings
from app.publish.meaning import Context, Exit, Meaning

S = TypeVar("S", bound=Hashable)
ARRIVAL, RETURN, TROUBLE = "arrival", "return from the fallback", "an error in the flow"
REACH = "asks for a person"


@dataclass(frozen=True, slots=True)
class Edge:
    """One way from step to step: the exit's name, and what is so once it was taken. `step` is a way in where there is none."""

    step: str
    exit: str
    effect: Exit

    @property
    def to(self) -> str:
        return self.effect.to


@dataclass(frozen=True, slots=True)
class Path:
    """A way in, the edges after it, and the step at which it ends."""

    edges: tuple[Edge, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(edge.to for edge in self.edges)

    def __str__(self) -> str:
        """`arrival -> greet (done) -> ask (no_input) -> end`"""
        first = self.edges[0]
        words = [f"{first.step} ({first.exit})" if first.exit else first.step]
        for edge, following in zip(self.edges, (*self.edges[1:], None), strict=True):
            words.append(f"{edge.to} ({following.exit})" if following else edge.to)
        return " -> ".join(words)


class Graph:
    """The steps of a flow, their exits, and the ways in."""

    def __init__(self, context: Context) -> None:
        program = context.program
        self.context, self.program = context, program
        self.meanings: dict[str, Meaning] = meanings(context)
        self.edges: dict[str, list[Edge]] = {
            name: [Edge(name, exit_, effect) for exit_, effect in meaning.exits.items()] for name, meaning in self.meanings.items()
        }
        self._reach_a_person()
        brought = frozenset().union(*(context.secret(action, into) for into, action in context.automated.items()))
        self.arrival = Edge(ARRIVAL, "", Exit(program.start, ("start",), taints=brought))
        self.entries = [self.arrival]
        if program.returns:
            self.entries.append(Edge(RETURN, "", Exit(program.returns, ("returns",))))
        self.entries += [Edge(f"sent to {name}", "", Exit(step, ("entries", name))) for name, step in program.entries.items()]
        self.trouble = Edge(TROUBLE, "", Exit(program.on_error, ("on_error",)))
        self._ask_anew()

    def _reach_a_person(self) -> None:
        """The key that leads to a person from every step that does not refuse it; what the step forgets as it begins is forgotten."""
        reach = getattr(self.program, "reach_a_person", None)
        if reach is None:
            return
        for name, node in self.program.steps.items():
            if getattr(node, "reach_a_person", False) and name != reach.step:
                begun = self.meanings[name].exits.get("failed", Exit("", ()))
                effect = replace(begun, to=reach.step, where=("reach_a_person", "step"), act="caller")
                self.edges[name].append(Edge(name, REACH, effect))

    def _ask_anew(self) -> None:
        """What an automation at a step brought is forgotten on the edges on which it is asked again."""
        for automation in self.program.automations:
            if automation.into is None or automation.on not in ("entered", "left"):
                continue
            into, secret = automation.into, self.context.secret(automation.action, automation.into)

            def again(edge: Edge, automation: Automation = automation, into: str = into, secret: Names = secret) -> Edge:
                if not passes(automation, edge):
                    return edge
                effect = edge.effect
                kept, implied = (frozenset(v for v in names if not v.startswith(f"{into}.")) for names in (effect.sets, effect.implies))
                sets = kept | {f"{into}.found", f"{into}.answered"}
                clears, taints = (*effect.clears, f"{into}."), effect.taints | secret
                return replace(edge, effect=replace(effect, sets=sets, implies=implied, clears=clears, taints=taints))

            self.edges = {name: list(map(again, edges)) for name, edges in self.edges.items()}
            self.entries = list(map(again, self.entries))
            self.arrival, self.trouble = self.entries[0], again(self.trouble)

    @property
    def ways_in(self) -> list[Edge]:
        return [*self.entries, self.trouble]

    def all_edges(self) -> Iterator[Edge]:
        for edges in self.edges.values():
            yield from edges

    def reachable(self) -> set[str]:
        """Every step that some call can come to."""
        return {edge.to for edge in walk(self, self.ways_in, lambda edge: True)}

    def path_to(self, step: str) -> Path | None:
        """The shortest path from a way in to a step."""
        return search(self, [(edge, None) for edge in self.ways_in], lambda edge, state: [state], lambda name, state: name == step)

    def components(self, edges: Callable[[Edge], bool]) -> list[list[str]]:
        """Steps that lead to one another along the chosen edges; only those in a cycle."""
        order: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        found: list[list[str]] = []
        position = {name: i for i, name in enumerate(self.edges)}

        for root in self.edges:
            if root in order:
                continue
            work: list[tuple[str, Iterator[Edge]]] = [(root, iter(self.edges[root]))]
            order[root] = low[root] = len(order)
            stack.append(root)
            while work:
                name, following = work[-1]
                for edge in following:
                    if not edges(edge) or edge.to not in self.edges:
                        continue
                    if edge.to not in order:
                        order[edge.to] = low[edge.to] = len(order)
                        stack.append(edge.to)
                        work.append((edge.to, iter(self.edges[edge.to])))
                        break
                    if edge.to in stack:
                        low[name] = min(low[name], order[edge.to])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[name])
                    if low[name] == order[name]:
                        component = stack[stack.index(name) :]
                        del stack[stack.index(name) :]
                        inside = set(component)
                        if len(component) > 1 or any(e.to in inside and edges(e) for e in self.edges[name]):
                            found.append(sorted(component, key=position.__getitem__))
        return sorted(found, key=lambda component: position[component[0]])

    def cycle(self, step: str, within: Iterable[str], edges: Callable[[Edge], bool], through: Edge | None = None) -> Path | None:
        """The shortest way from a step back to it, inside some steps; or the shortest that begins with one edge."""
        inside = set(within)
        first = [through] if through else [edge for edge in self.edges[step] if edges(edge)]
        starts = [(edge, None) for edge in first if edge.to in inside]
        follow = lambda edge, state: [state] if edges(edge) and edge.to in inside else []  # noqa: E731
        return search(self, starts, follow, lambda name, state: name == step)


def passes(automation: Automation, edge: Edge) -> bool:
    """Whether a call that takes this edge enters, or leaves, the step of an automation."""
    if automation.on == "entered":
        return edge.to == automation.at
    return automation.at in around(edge.step) and not edge.to.startswith(f"{automation.at}.")


def walk(graph: Graph, starts: Iterable[Edge], follow: Callable[[Edge], bool]) -> Iterator[Edge]:
    """Every edge by which a step is first come to."""
    seen: set[str] = set()
    queue = deque(starts)
    while queue:
        edge = queue.popleft()
        if edge.to in seen or edge.to not in graph.edges:
            continue
        seen.add(edge.to)
        yield edge
        queue += [following for following in graph.edges[edge.to] if follow(following)]


def search(
    graph: Graph, starts: Iterable[tuple[Edge, S]], follow: Callable[[Edge, S], Iterable[S]], goal: Callable[[str, S], bool]
) -> Path | None:
    """The shortest path to a step and a state that are the goal. `follow` gives the states after an edge, none where it is not taken."""
    explored = Explored(graph, starts, follow)
    return next((explored.path(*key) for key in explored.reached if goal(*key)), None)


class Explored(Generic[S]):
    """Every step and state that can be come to, nearest first, each with the shortest path to it.

    `follow` gives the states after an edge, none where it is not taken; `anywhere` are edges that lead away from every step.
    """

    def __init__(
        self,
        graph: Graph,
        starts: Iterable[tuple[Edge, S]],
        follow: Callable[[Edge, S], Iterable[S]],
        anywhere: Iterable[Edge] = (),
    ) -> None:
        self.reached: dict[tuple[str, S], tuple[Edge, tuple[str, S] | None]] = {}
        more = tuple(anywhere)
        queue: deque[tuple[str, S]] = deque()
        for edge, state in starts:
            self._reach(graph, queue, edge, state, None)
        while queue:
            key = queue.popleft()
            for edge in (*graph.edges[key[0]], *more):
                for state in follow(edge, key[1]):
                    self._reach(graph, queue, edge, state, key)

    def _reach(self, graph: Graph, queue: deque[tuple[str, S]], edge: Edge, state: S, before: tuple[str, S] | None) -> None:
        key = (edge.to, state)
        if key not in self.reached and edge.to in graph.edges:
            self.reached[key] = (edge, before)
            queue.append(key)

    def path(self, step: str, state: S) -> Path | None:
        """The shortest path to a step in a state; None where no path leads there."""
        return Path(tuple(edge for edge, _ in self._trace(step, state))) if (step, state) in self.reached else None

    def origin(self, step: str, state: S) -> S:
        """The state in which the shortest path to a step and a state begins."""
        return self._trace(step, state)[0][1]

    def _trace(self, step: str, state: S) -> list[tuple[Edge, S]]:
        trace: list[tuple[Edge, S]] = []
        at: tuple[str, S] | None = (step, state)
        while at is not None:
            edge, before = self.reached[at]
            trace.append((edge, at[1]))
            at = before
        return trace[::-1]
