"""The distributor: agents and those who wait, brought together one decision at a time.

`match` gives the same answer as going through all who wait in the order of their keys and giving each the best of the
agents who are then available. It does not do so. After a match nobody who waits has an available agent who could serve
him; so only what has changed since needs to be looked at: agents who have become available (`_fresh`), and interactions
that have arrived, come back, or ask for less (`_dirty`).

**Last agent.** While the agent who served a caller before is signed in, ready and merely busy, the caller is held for him
until `last_agent_until`, and nobody else is considered. When the agent stops being ready, or that time comes, the caller
falls back to all others; and he still gets that agent before any other who is free at the same moment.

**Refusals.** An agent who rejects an offer, or whose leg failed after answering, is not offered the same interaction for
`REFUSAL` seconds; somebody else is.

Everything that decisions depend on is in the agents' states and the `Waiting` rows. Dumping and loading those at any
moment changes nothing in what is decided later; what `next_deadline` names follows from them and the time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.core.acd import explain
from app.core.acd.agents import Agent, AgentDef, IllegalMove, UnknownAgent
from app.core.acd.matching import Callers, Layout, Question, Shelf, members
from app.core.acd.queues import QueueDef, UnknownInteraction, UnknownQueue, Waiting
from app.core.acd.relaxation import FOREVER, final, next_step, relaxed

REFUSAL = 30.0
MANY = 32


@dataclass(frozen=True, slots=True)
class Match:
    """An interaction reserved for an agent, and the decision record that says why."""

    interaction: str
    agent: str
    decision: dict[str, Any]


class Entry:
    """What the distributor knows of one interaction beside its row."""

    __slots__ = ("asked", "deadline", "held", "item", "lined", "offered", "seat")

    def __init__(self, item: Waiting) -> None:
        self.item = item
        self.seat = (item.first, item.interaction)
        self.asked: Mapping[str, int] = item.skills
        self.lined = False
        self.held = ""
        self.offered = False
        self.deadline = FOREVER


@dataclass(frozen=True, slots=True)
class Place:
    """What of an agent's definition matching needs: the columns of his queues and of all else, and his question to those who wait."""

    homes: tuple[int, ...]
    columns: tuple[int, ...]
    question: Question


class Acd:
    """Automatic call distribution over fixed definitions of queues and agents. Pure: every time is handed in, in seconds."""

    def __init__(self, queues: Mapping[str, QueueDef], agents: Mapping[str, AgentDef]) -> None:
        self._queues = dict(queues)
        self._agents = {name: Agent(definition) for name, definition in agents.items()}
        layout = Layout(self._queues, sorted({skill for definition in agents.values() for skill in definition.skills}))
        versatilities = [definition.versatility for definition in agents.values()]
        self._callers = Callers(layout)
        self._shelf = Shelf(layout, versatilities)
        self._roster = Shelf(layout, versatilities)
        self._signed_in = 0
        self._shelved: dict[str, tuple[float, str]] = {}
        self._places: dict[str, Place] = {}
        for name, definition in sorted(agents.items()):
            columns = self._shelf.columns(definition.skills, definition.versatility)
            homes = layout.homes(definition.queues)
            self._places[name] = Place(homes, columns, self._callers.question(definition.queues, definition.skills))
            self._insert(self._roster, name, (0.0, name))
        self._entries: dict[str, Entry] = {}
        self._offers: dict[str, str] = {}
        self._dirty: dict[str, None] = {}
        self._fresh: dict[str, None] = {}
        self._committed: set[str] = set()
        self._regulars: dict[str, set[str]] = {}
        self._refusers: dict[str, set[str]] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._changed: dict[str, None] = {}

    # ---- agents ---------------------------------------------------------------------------------------------------------

    def sign_in(self, agent: str, now: float) -> None:
        """The agent is there, and not ready yet."""
        self._presence(agent, "sign_in", now)

    def sign_out(self, agent: str, now: float) -> None:
        """The agent goes; with work in hand, once it has ended."""
        self._presence(agent, "sign_out", now)

    def ready(self, agent: str, now: float) -> None:
        """The agent wants work; a pending "not ready" or "sign out" is taken back."""
        self._presence(agent, "ready", now)

    def not_ready(self, agent: str, now: float, reason: str = "") -> None:
        """The agent wants no more work; with work in hand, once it has ended."""
        self._presence(agent, "not_ready", now, reason)

    def phone(self, agent: str, reachable: bool, in_use: bool, now: float) -> None:
        """What is known of the agent's phone."""
        about = self._agent(agent)
        if (about.reachable, about.in_use) != (reachable, in_use):
            about.reachable, about.in_use = reachable, in_use
            self._refresh(agent)

    def desk(self, agent: str, connected: bool, now: float) -> None:
        """Whether the agent has a page open. Offers go out without one too; the centre withdraws them after a grace time."""
        about = self._agent(agent)
        if about.desk != connected:
            about.desk = connected
            self._changed[agent] = None

    def work(self, agent: str, interaction: str, verb: str, now: float) -> None:
        """A verb of the work table for one interaction in hand. Raises `IllegalMove`, `UnknownAgent`."""
        about = self._agent(agent)
        state = about.work_verb(interaction, verb, now)
        if state == "talking" and verb == "joined":
            self.leave(interaction)
        if state != "connecting" and self._offers.get(interaction) == agent:
            del self._offers[interaction]
        if verb in ("reject", "failed"):
            self._refuse(interaction, agent, now)
        self._refresh(agent)

    def state(self, agent: str) -> dict[str, Any]:
        """The agent as boards and pages show it, plain JSON values."""
        return self._agent(agent).state()

    def states(self) -> list[dict[str, Any]]:
        """All agents, in the order of their definitions."""
        return [about.state() for about in self._agents.values()]

    def changed(self) -> list[str]:
        """Agents whose state has changed since the last call, each once, in the order of their first change."""
        names = list(self._changed)
        self._changed.clear()
        return names

    def dump_agent(self, agent: str) -> dict[str, Any]:
        """The agent's row for the store."""
        return self._agent(agent).dump()

    def load_agent(self, agent: str, row: Mapping[str, Any]) -> None:
        """Continue where `dump_agent` was taken, offers and conversations included."""
        about = self._agent(agent)
        about.load(row)
        self._unshelve(agent)
        for interaction, (state, _) in about.work.items():
            if state in ("offered", "connecting"):
                self._offers[interaction] = agent
        self._refresh(agent)

    # ---- interactions ---------------------------------------------------------------------------------------------------

    def enqueue(self, item: Waiting, now: float) -> None:
        """Wait for an agent. Raises `UnknownQueue`; ValueError when the interaction waits or is offered already."""
        self._admit(item)
        self._await(self._entries[item.interaction])

    def restore(self, items: Iterable[Waiting], offered: Iterable[str] = ()) -> None:
        """Take back those who waited, in any order; the ones named in `offered` are remembered as being offered."""
        away = set(offered)
        for item in sorted(items, key=lambda item: (item.first, item.interaction)):
            self._admit(item)
            entry = self._entries[item.interaction]
            if item.interaction in away:
                entry.offered = True
            else:
                self._await(entry)

    def leave(self, interaction: str) -> None:
        """Forget the interaction: it has gone, or goes elsewhere. One that is not known is silence."""
        entry = self._entries.pop(interaction, None)
        if entry is None:
            return
        if not entry.offered:
            self._withdraw(entry)
        entry.deadline = FOREVER

    def requeue(self, interaction: str, now: float) -> None:
        """Back to its place after an offer that came to nothing (tell `work` so first). Raises `UnknownInteraction`, `IllegalMove`."""
        entry = self._entry(interaction)
        agent = self._offers.get(interaction)
        if agent is not None:
            raise IllegalMove("requeue", self._agents[agent].work[interaction][0], f"interaction {interaction}")
        if entry.offered:
            entry.offered = False
            self._await(entry)

    def item(self, interaction: str) -> Waiting:
        """The row of one who waits or is offered, refusals included. Raises `UnknownInteraction`."""
        return self._entry(interaction).item

    def waiting(self, queue: str) -> list[Waiting]:
        """Those waiting in `queue`, in order; nobody in a queue that is not defined."""
        if queue not in self._queues:
            return []
        at = self._callers.family.at
        line = [self._entries[at[slot][1]].item for slot in members(self._callers.everybody(queue))]
        return sorted(line, key=lambda item: item.key)

    def position(self, interaction: str) -> int:
        """The place in its queue, 1 for the head; 0 when not waiting."""
        entry = self._entries.get(interaction)
        if entry is None or entry.offered:
            return 0
        return self._callers.ahead(entry.item.queue, entry.item.key) + 1

    def able(self, queue: str, skills: Mapping[str, int]) -> tuple[int, int]:
        """How many signed-in agents could ever serve this, once all its relaxation has applied; and how many of those are available now."""
        if queue not in self._queues:
            return 0, 0
        asked = final(skills, self._queues[queue].relax)
        ever = (self._roster.able(queue, asked) & self._signed_in).bit_count()
        fresh = sum(self._serves(self._agents[name].definition, queue, asked) for name in self._fresh)
        return ever, self._shelf.able(queue, asked).bit_count() + fresh

    def why_not(self, interaction: str, agent: str, now: float) -> dict[str, Any]:
        """The first thing that keeps this agent from this interaction; `{"reason": "none"}` when nothing does."""
        entry = self._entry(interaction)
        asked = self._asked(entry.item, now)
        return explain.why_not(entry.item, asked, self._agent(agent), self._holder(entry.item, asked, now), now)

    # ---- time and decisions ---------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the passing of time alone next changes what can be matched."""
        heap = self._deadlines
        while heap and not self._valid(*heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> None:
        """Take note of what has fallen due; `match` does it by itself."""
        heap = self._deadlines
        while heap and heap[0][0] <= now:
            at, interaction = heapq.heappop(heap)
            if self._valid(at, interaction):
                self._entries[interaction].deadline = FOREVER
                self._dirty[interaction] = None

    def match(self, now: float) -> list[Match]:
        """Reserve an agent for each interaction that can have one, in order; agents become "offered", interactions stop waiting."""
        self.due(now)
        if not self._fresh and not self._dirty:
            return []
        if len(self._fresh) == 1 and not self._dirty:
            return self._match_agent(next(iter(self._fresh)), now)
        return self._match_all(now)

    def _match_agent(self, name: str, now: float) -> list[Match]:
        """One agent has become available and nothing else has changed: he takes the first whom he can serve."""
        self._fresh.clear()
        servable = self._servable(name, now)
        if not servable:
            self._shelve(name)
            return []
        entry = self._entries[self._callers.family.at[self._callers.first(servable)][1]]
        return [self._reserve(entry, name, None, now)]

    def _match_all(self, now: float) -> list[Match]:
        callers = self._callers
        slots, at = callers.family.slot, callers.family.at
        for name in sorted(self._fresh, key=lambda name: (self._agents[name].idle_since, name)):
            self._shelve(name)
        dirty = 0
        for interaction in self._dirty:
            entry = self._entries[interaction]
            self._assess(entry, now)
            dirty |= 1 << slots[entry.seat]
        candidates = dirty | self._candidates(now)
        matches = []
        while candidates:
            slot = callers.first(candidates)
            candidates ^= 1 << slot
            entry = self._entries[at[slot][1]]
            best, runner_up = self._best(entry, now)
            if best:
                matches.append(self._reserve(entry, best, runner_up, now))
                if not self._fresh:
                    candidates &= dirty
            elif entry.item.interaction in self._dirty:
                self._line(entry)
        self._fresh.clear()
        self._dirty.clear()
        return matches

    def _candidates(self, now: float) -> int:
        """Everybody whom one of the fresh agents could serve, or more than those when the agents are many."""
        found = 0
        if len(self._fresh) > MANY:
            for queue in self._queues:
                found |= self._callers.everybody(queue)
            return found
        for name in self._fresh:
            found |= self._servable(name, now)
        return found

    def _servable(self, name: str, now: float) -> int:
        """Those waiting whom this agent could serve."""
        found = self._callers.servable(self._places[name].question)
        slots = self._callers.family.slot
        for interaction in self._regulars.get(name, ()):
            entry = self._entries[interaction]
            if entry.held == name:
                found |= 1 << slots[entry.seat]
        for interaction in self._refusers.get(name, ()):
            entry = self._entries[interaction]
            if entry.item.refused[name] > now:
                found &= ~(1 << slots[entry.seat])
        return found

    def _best(self, entry: Entry, now: float) -> tuple[str, Agent | None]:
        """The best available agent for one who waits, "" for none; and the runner-up."""
        item, shelf = entry.item, self._shelf
        if entry.held:
            return (entry.held if entry.held in self._shelved else ""), None
        able = shelf.able(item.queue, entry.asked)
        if not able:
            return "", None
        slots, at = shelf.family.slot, shelf.family.at
        for name, until in item.refused.items():
            if until > now and name in self._shelved:
                able &= ~(1 << slots[self._shelved[name]])
        if not able:
            return "", None
        last = self._shelved.get(item.last_agent) if item.last_agent is not None else None
        best = able & 1 << slots[last] if last is not None else 0
        if not best:
            best = shelf.best(able, item.skills)
        top = best.bit_length() - 1
        rest = best ^ (1 << top)
        able ^= 1 << top
        if able and not rest:
            rest = shelf.best(able, item.skills)
        return at[top][1], self._agents[at[rest.bit_length() - 1][1]] if rest else None

    def _reserve(self, entry: Entry, name: str, runner_up: Agent | None, now: float) -> Match:
        agent = self._agents[name]
        record = explain.decision(entry.item, entry.asked, agent, runner_up, now)
        interaction = entry.item.interaction
        agent.offer(interaction, now)
        self._withdraw(entry)
        entry.offered = True
        self._fresh.pop(name, None)
        self._unshelve(name)
        self._offers[interaction] = name
        self._changed[name] = None
        return Match(interaction, name, record)

    # ---- those who wait ----------------------------------------------------------------------------------------------------

    def _admit(self, item: Waiting) -> None:
        if item.queue not in self._queues:
            raise UnknownQueue(f"interaction {item.interaction}: there is no queue {item.queue!r}")
        if item.interaction in self._entries:
            raise ValueError(f"interaction {item.interaction} is waiting or offered already")
        self._entries[item.interaction] = Entry(item)

    def _await(self, entry: Entry) -> None:
        item = entry.item
        self._callers.join(entry.seat, item.queue, item.credit)
        self._dirty[item.interaction] = None
        if item.last_agent is not None:
            self._regulars.setdefault(item.last_agent, set()).add(item.interaction)
        for name in item.refused:
            self._refusers.setdefault(name, set()).add(item.interaction)

    def _withdraw(self, entry: Entry) -> None:
        """No longer waiting; the place in the order is kept for the case of a return."""
        item = entry.item
        self._unline(entry)
        self._callers.part(entry.seat, item.queue, item.credit)
        entry.held = ""
        entry.deadline = FOREVER
        self._dirty.pop(item.interaction, None)
        if item.last_agent is not None:
            drop(self._regulars, item.last_agent, item.interaction)
        for name in item.refused:
            drop(self._refusers, name, item.interaction)

    def _assess(self, entry: Entry, now: float) -> None:
        """What is asked now, for whom it is held, and when that next changes."""
        item = entry.item
        self._unline(entry)
        entry.asked = self._asked(item, now)
        entry.held = self._holder(item, entry.asked, now)
        rules = self._queues[item.queue].relax
        at = item.first + next_step(item.skills, rules, now - item.first) if rules else FOREVER
        if item.last_agent is not None and now < item.last_agent_until < at:
            at = item.last_agent_until
        if item.refused:
            at = min([at, *(until for until in item.refused.values() if until > now)])
        entry.deadline = at
        if at < FOREVER:
            heapq.heappush(self._deadlines, (at, item.interaction))

    def _asked(self, item: Waiting, now: float) -> Mapping[str, int]:
        rules = self._queues[item.queue].relax
        return relaxed(item.skills, rules, now - item.first) if rules else item.skills

    def _holder(self, item: Waiting, asked: Mapping[str, int], now: float) -> str:
        """The last agent while it is worth waiting for him, else ""."""
        last = item.last_agent
        if last is None or now >= item.last_agent_until or last not in self._committed or item.refused.get(last, now) > now:
            return ""
        return last if self._serves(self._agents[last].definition, item.queue, asked) else ""

    def _line(self, entry: Entry) -> None:
        """Agents who become available shall find him; unless he is held, or asks what nobody has."""
        of_level = self._callers.layout.of_level
        if not entry.held and all(skill in of_level for skill in entry.asked):
            self._callers.line_up(entry.seat, entry.item.queue, entry.asked)
            entry.lined = True

    def _unline(self, entry: Entry) -> None:
        if entry.lined:
            self._callers.step_out(entry.seat, entry.item.queue)
            entry.lined = False

    def _refuse(self, interaction: str, agent: str, now: float) -> None:
        entry = self._entries.get(interaction)
        if entry is not None and entry.offered:
            still = {name: until for name, until in entry.item.refused.items() if until > now}
            entry.item = replace(entry.item, refused={**still, agent: now + REFUSAL})

    def _valid(self, at: float, interaction: str) -> bool:
        entry = self._entries.get(interaction)
        return entry is not None and entry.deadline == at

    def _entry(self, interaction: str) -> Entry:
        entry = self._entries.get(interaction)
        if entry is None:
            raise UnknownInteraction(f"interaction {interaction} is neither waiting nor offered")
        return entry

    # ---- agents at hand ------------------------------------------------------------------------------------------------------

    def _agent(self, agent: str) -> Agent:
        about = self._agents.get(agent)
        if about is None:
            raise UnknownAgent(f"there is no agent {agent!r}")
        return about

    def _presence(self, agent: str, verb: str, now: float, reason: str = "") -> None:
        self._agent(agent).presence_verb(verb, now, reason)
        self._refresh(agent)

    def _refresh(self, name: str) -> None:
        """Follow a change of an agent's state."""
        agent = self._agents[name]
        self._changed[name] = None
        if not agent.available:
            self._fresh.pop(name, None)
            self._unshelve(name)
        elif name not in self._shelved:
            self._fresh[name] = None
        present = 1 << self._roster.family.slot[(0.0, name)]
        if bool(self._signed_in & present) != (agent.presence != "signed_out"):
            self._signed_in ^= present
        if agent.committed != (name in self._committed):
            self._committed ^= {name}
            for interaction in self._regulars.get(name, ()):
                self._dirty[interaction] = None

    def _shelve(self, name: str) -> None:
        """Available, and nobody there to serve yet."""
        self._shelved[name] = seat = (self._agents[name].idle_since, name)
        self._insert(self._shelf, name, seat)

    def _unshelve(self, name: str) -> None:
        seat = self._shelved.pop(name, None)
        if seat is not None:
            family = self._shelf.family
            bit = 1 << family.slot[seat]
            for column in self._places[name].homes:
                family.bits[column] ^= bit
            family.discard(seat)

    def _insert(self, shelf: Shelf, name: str, seat: tuple[float, str]) -> None:
        bit, place = 1 << shelf.family.add(seat), self._places[name]
        bits = shelf.family.bits
        for column in place.homes:
            bits[column] |= bit
        for column in place.columns:
            bits[column] |= bit

    @staticmethod
    def _serves(definition: AgentDef, queue: str, asked: Mapping[str, int]) -> bool:
        return queue in definition.queues and all(definition.skills.get(skill, 0) >= level for skill, level in asked.items())


def drop(groups: dict[str, set[str]], name: str, member: str) -> None:
    """Take a member out of a group, and the group away when it is empty."""
    group = groups.get(name)
    if group is not None:
        group.discard(member)
        if not group:
            del groups[name]
