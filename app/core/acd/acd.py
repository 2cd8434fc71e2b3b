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
from dataclasses import replace
from typing import Any, NamedTuple

from app.core.acd import explain
from app.core.acd.agents import Agent, AgentDef, IllegalMove, UnknownAgent
from app.core.acd.family import Seat
from app.core.acd.matching import Callers, Entry, Found, Layout, Shelf, head, holds, size, without
from app.core.acd.queues import Key, QueueDef, UnknownInteraction, UnknownQueue, Waiting
from app.core.acd.relaxation import FOREVER, final, next_step, relaxed

REFUSAL = 30.0
FEW, MANY = 2, 32
"""Up to so many agents who have become available are looked at one by one; from so many on, all who wait are gone through."""


class Match(NamedTuple):
    """An interaction reserved for an agent, and what was seen when that was decided."""

    interaction: str
    agent: str
    seen: explain.Seen

    @property
    def decision(self) -> dict[str, Any]:
        """The decision record that says why."""
        return self.seen.record()


class Post:
    """One agent beside his own state: what matching needs of his definition, where he is in it, and what it knows of him already."""

    __slots__ = ("agent", "columns", "committed", "homes", "place", "question", "seat", "shelved", "signed_in")

    def __init__(self, agent: Agent, callers: Callers, shelf: Shelf) -> None:
        definition = agent.definition
        self.agent = agent
        self.homes = callers.layout.homes(definition.queues)
        self.columns = shelf.columns(definition.skills, definition.versatility)
        self.question = callers.question(definition.queues, definition.skills)
        self.place = Seat((0.0, definition.id))
        self.seat = Seat((0.0, definition.id))
        self.shelved = self.signed_in = self.committed = False

    def serves(self, queue: str, asked: Mapping[str, int]) -> bool:
        """Whether the agent serves the queue and has every skill asked."""
        definition = self.agent.definition
        if queue not in definition.queues:
            return False
        return all(definition.skills.get(skill, 0) >= level for skill, level in asked.items())


class Acd:
    """Automatic call distribution over fixed definitions of queues and agents. Pure: every time is handed in, in seconds."""

    def __init__(self, queues: Mapping[str, QueueDef], agents: Mapping[str, AgentDef]) -> None:
        self._queues = dict(queues)
        layout = Layout(self._queues, sorted({skill for definition in agents.values() for skill in definition.skills}))
        versatilities = [definition.versatility for definition in agents.values()]
        self._callers = Callers(layout)
        self._shelf = Shelf(layout, versatilities)
        self._roster = Shelf(layout, versatilities)
        self._posts = {name: Post(Agent(definition), self._callers, self._shelf) for name, definition in agents.items()}
        for _, post in sorted(self._posts.items()):
            self._roster.put(post.place, (), post.columns)
        self._entries: dict[str, Entry] = {}
        self._offers: dict[str, str] = {}
        self._dirty: dict[str, None] = {}
        self._fresh: dict[str, None] = {}
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
        post = self._post(agent)
        about = post.agent
        if about.reachable != reachable or about.in_use != in_use:
            about.reachable, about.in_use = reachable, in_use
            self._refresh(agent, post)

    def desk(self, agent: str, connected: bool, now: float) -> None:
        """Whether the agent has a page open. Offers go out without one too; the centre withdraws them after a grace time."""
        about = self._post(agent).agent
        if about.desk != connected:
            about.desk = connected
            self._changed[agent] = None

    def work(self, agent: str, interaction: str, verb: str, now: float) -> None:
        """A verb of the work table for one interaction in hand. Raises `IllegalMove`, `UnknownAgent`."""
        post = self._post(agent)
        state = post.agent.work_verb(interaction, verb, now)
        if verb == "joined":
            self.leave(interaction)
        if state != "connecting" and self._offers.get(interaction) == agent:
            del self._offers[interaction]
        if verb in ("reject", "failed"):
            self._refuse(interaction, agent, now)
        self._refresh(agent, post)

    def reserve(self, agent: str, interaction: str, now: float) -> str:
        """Give an agent, who is named, an interaction that waits in no queue; or why not, as `Agent.unavailable` has it."""
        post = self._post(agent)
        why_not = post.agent.unavailable
        if not why_not:
            post.agent.offer(interaction, now)
            self._offers[interaction] = agent
            self._refresh(agent, post)
        return why_not

    def state(self, agent: str) -> dict[str, Any]:
        """The agent as boards and pages show it, plain JSON values."""
        return self._post(agent).agent.state()

    def states(self) -> list[dict[str, Any]]:
        """All agents, in the order of their definitions."""
        return [post.agent.state() for post in self._posts.values()]

    def changed(self) -> list[str]:
        """Agents whose state has changed since the last call, each once, in the order of their first change."""
        names = list(self._changed)
        self._changed.clear()
        return names

    def dump_agent(self, agent: str) -> dict[str, Any]:
        """The agent's row for the store."""
        return self._post(agent).agent.dump()

    def load_agent(self, agent: str, row: Mapping[str, Any]) -> None:
        """Continue where `dump_agent` was taken, offers and conversations included."""
        post = self._post(agent)
        post.agent.load(row)
        self._unshelve(post)
        for interaction, (state, _) in post.agent.work.items():
            if state in ("offered", "connecting"):
                self._offers[interaction] = agent
        self._refresh(agent, post)

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

    def requeue(self, interaction: str, now: float) -> None:
        """Back to its place after an offer that came to nothing (tell `work` so first). Raises `UnknownInteraction`, `IllegalMove`."""
        entry = self._entry(interaction)
        agent = self._offers.get(interaction)
        if agent is not None:
            raise IllegalMove("requeue", self._posts[agent].agent.work[interaction][0], f"interaction {interaction}")
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
        return sorted((entry.item for entry in self._callers.everybody(queue)), key=lambda item: item.key)

    def position(self, interaction: str) -> int:
        """The place in its queue, 1 for the head; 0 when not waiting."""
        entry = self._entries.get(interaction)
        if entry is None or entry.offered:
            return 0
        return self._callers.ahead(entry.item.queue, entry.order) + 1

    def able(self, queue: str, skills: Mapping[str, int]) -> tuple[int, int]:
        """How many signed-in agents could ever serve this, once all its relaxation has applied; and how many of those are available now."""
        if queue not in self._queues:
            return 0, 0
        asked = final(skills, self._queues[queue].relax)
        fresh = sum(self._posts[name].serves(queue, asked) for name in self._fresh)
        return size(self._roster.able(queue, asked)), size(self._shelf.able(queue, asked)) + fresh

    def why_not(self, interaction: str, agent: str, now: float) -> dict[str, Any]:
        """The first thing that keeps this agent from this interaction; `{"reason": "none"}` when nothing does."""
        entry = self._entry(interaction)
        asked = self._asked(entry, now)
        return explain.why_not(entry.item, asked, self._post(agent).agent, self._holder(entry.item, asked, now), now)

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
        if self._deadlines and self._deadlines[0][0] <= now:
            self.due(now)
        changes = len(self._fresh) + len(self._dirty)
        if not changes:
            return []
        if changes > 1:
            return self._match_all(now)
        for name in self._fresh:
            return self._match_agent(name, now)
        return self._match_caller(next(iter(self._dirty)), now)

    def _match_agent(self, name: str, now: float) -> list[Match]:
        """One agent has become available and nothing else has changed: he takes the first whom he can serve."""
        entry = self._first(name, now)
        if entry is None:
            self._shelve()
            return []
        return [self._reserve(entry, self._posts[name], None, now)]

    def _match_caller(self, interaction: str, now: float) -> list[Match]:
        """One interaction has changed and nothing else: it gets the best of those who are available, or waits."""
        entry = self._entries[interaction]
        self._assess(entry, now)
        best, runner_up = self._best(entry, now)
        if best is not None:
            return [self._reserve(entry, best, runner_up, now)]
        self._dirty.clear()
        self._line(entry)
        return []

    def _match_all(self, now: float) -> list[Match]:
        """In order, those who have changed, and whoever is the first for one of the fresh agents."""
        todo: list[tuple[Key, str, Entry]] = []
        for interaction in self._dirty:
            entry = self._entries[interaction]
            self._assess(entry, now)
            todo.append((entry.order, "", entry))
        fresh = dict(self._fresh)
        if len(fresh) > MANY:
            everybody = {entry.item.interaction: entry for queue in self._queues for entry in self._callers.everybody(queue)}
            todo = [(entry.order, "", entry) for entry in everybody.values()]
        else:
            todo += [(first.order, name, first) for name in fresh if (first := self._first(name, now)) is not None]
        if len(fresh) > FEW:
            self._shelve()
        heapq.heapify(todo)
        matches = []
        while todo:
            _, name, entry = heapq.heappop(todo)
            if not entry.offered:
                best, runner_up = self._best(entry, now)
                if best is not None:
                    fresh.pop(best.agent.definition.id, None)
                    matches.append(self._reserve(entry, best, runner_up, now))
                elif entry.item.interaction in self._dirty:
                    self._line(entry)
            if name in fresh and entry.offered and (following := self._first(name, now)) is not None:
                heapq.heappush(todo, (following.order, name, following))
        self._dirty.clear()
        self._shelve()
        return matches

    def _first(self, name: str, now: float) -> Entry | None:
        """The first of those waiting whom this agent could serve."""
        barred: list[Entry] = []
        for interaction in self._refusers.get(name, ()):
            entry = self._entries[interaction]
            if entry.item.refused[name] > now:
                barred.append(entry)
        first = self._callers.first(self._posts[name].question, barred)
        for interaction in self._regulars.get(name, ()):
            entry = self._entries[interaction]
            if entry.held == name and entry not in barred and (first is None or entry.order < first.order):
                first = entry
        return first

    def _best(self, entry: Entry, now: float) -> tuple[Post | None, Post | None]:
        """The best available agent for one who waits, and the runner-up; None for nobody."""
        item = entry.item
        if entry.held:
            return (self._posts[entry.held] if self._posts[entry.held].shelved or entry.held in self._fresh else None), None
        leaders = self._leaders(entry, now)
        for name in self._fresh:
            if self._posts[name].serves(item.queue, entry.asked) and not item.refused.get(name, now) > now:
                leaders.append(self._posts[name])
        if not leaders:
            return None, None
        if len(leaders) == 1:
            return leaders[0], None
        if self._fresh:
            leaders.sort(key=lambda post: explain.rank(post.agent.definition, post.agent.idle_since, item))
        return leaders[0], leaders[1]

    def _leaders(self, entry: Entry, now: float) -> list[Post]:
        """The best of the agents on the shelf for one who waits, and the second best."""
        item, shelf = entry.item, self._shelf
        able = shelf.able(item.queue, entry.asked)
        if not able:
            return []
        if item.refused:
            for name, until in item.refused.items():
                if until > now and name in self._posts:
                    able = without(able, self._posts[name].seat)
            if not able:
                return []
        leaders: Found = []
        last = self._posts.get(item.last_agent) if item.last_agent is not None else None
        if last is not None and last.shelved and holds(able, last.seat):
            best = last.seat
        else:
            leaders = shelf.best(able, item.skills)
            best = head(leaders)
            leaders = without(leaders, best)
        if not leaders and (able := without(able, best)):
            leaders = shelf.best(able, item.skills)
        first = self._posts[best.key[1]]
        return [first, self._posts[head(leaders).key[1]]] if leaders else [first]

    def _reserve(self, entry: Entry, post: Post, runner_up: Post | None, now: float) -> Match:
        agent = post.agent
        name, interaction = agent.definition.id, entry.item.interaction
        if runner_up is None:
            seen = explain.Seen(entry.item, entry.asked, (agent.definition,), (agent.idle_since,), now)
        else:
            other = runner_up.agent
            agents, idle = (agent.definition, other.definition), (agent.idle_since, other.idle_since)
            seen = explain.Seen(entry.item, entry.asked, agents, idle, now)
        agent.offer(interaction, now)
        self._withdraw(entry)
        entry.offered = True
        self._fresh.pop(name, None)
        self._unshelve(post)
        self._offers[interaction] = name
        self._changed[name] = None
        return Match(interaction, name, seen)

    # ---- those who wait ----------------------------------------------------------------------------------------------------

    def _admit(self, item: Waiting) -> None:
        if item.queue not in self._queues:
            raise UnknownQueue(f"interaction {item.interaction}: there is no queue {item.queue!r}")
        if item.interaction in self._entries:
            raise ValueError(f"interaction {item.interaction} is waiting or offered already")
        entry = self._entries[item.interaction] = Entry(item)
        for rule in self._queues[item.queue].relax:
            if rule.skill in item.skills:
                entry.rules += (rule,)

    def _await(self, entry: Entry) -> None:
        item = entry.item
        self._callers.join(entry)
        self._dirty[item.interaction] = None
        if item.last_agent is not None:
            self._regulars.setdefault(item.last_agent, set()).add(item.interaction)
        for name in item.refused:
            self._refusers.setdefault(name, set()).add(item.interaction)

    def _withdraw(self, entry: Entry) -> None:
        """No longer waiting; the place in the order is kept for the case of a return."""
        item = entry.item
        self._callers.part(entry)
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
        self._callers.step_out(entry)
        entry.asked = self._asked(entry, now)
        at = item.first + next_step(item.skills, entry.rules, now - item.first) if entry.rules else FOREVER
        if item.last_agent is not None:
            entry.held = self._holder(item, entry.asked, now)
            if now < item.last_agent_until < at:
                at = item.last_agent_until
        if item.refused:
            at = min([at, *(until for until in item.refused.values() if until > now)])
        entry.deadline = at
        if at < FOREVER:
            heapq.heappush(self._deadlines, (at, item.interaction))

    def _asked(self, entry: Entry, now: float) -> Mapping[str, int]:
        item = entry.item
        return relaxed(item.skills, entry.rules, now - item.first) if entry.rules else item.skills

    def _holder(self, item: Waiting, asked: Mapping[str, int], now: float) -> str:
        """The last agent while it is worth waiting for him, else ""."""
        last = item.last_agent
        if last is None or now >= item.last_agent_until or item.refused.get(last, now) > now:
            return ""
        post = self._posts.get(last)
        return last if post is not None and post.committed and post.serves(item.queue, asked) else ""

    def _line(self, entry: Entry) -> None:
        """Agents who become available shall find him; unless he is held, or asks what nobody has."""
        of_level = self._callers.layout.of_level
        if entry.held:
            return
        for skill in entry.asked:
            if skill not in of_level:
                return
        self._callers.line_up(entry)

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

    def _post(self, agent: str) -> Post:
        post = self._posts.get(agent)
        if post is None:
            raise UnknownAgent(f"there is no agent {agent!r}")
        return post

    def _presence(self, agent: str, verb: str, now: float, reason: str = "") -> None:
        post = self._post(agent)
        post.agent.presence_verb(verb, now, reason)
        self._refresh(agent, post)

    def _refresh(self, name: str, post: Post) -> None:
        """Follow a change of an agent's state."""
        agent = post.agent
        self._changed[name] = None
        if agent.available:
            if not post.shelved:
                self._fresh[name] = None
        else:
            self._fresh.pop(name, None)
            if post.shelved:
                self._unshelve(post)
        if post.signed_in is (agent.presence == "signed_out"):
            post.signed_in = not post.signed_in
            self._roster.turn(post.place, post.homes)
        if post.committed is not agent.committed:
            post.committed = not post.committed
            for interaction in self._regulars.get(name, ()):
                self._dirty[interaction] = None

    def _shelve(self) -> None:
        """Those who are fresh are available, and nobody is there to serve yet."""
        keys = [(self._posts[name].agent.idle_since, name) for name in self._fresh]
        for key in sorted(keys):
            post = self._posts[key[1]]
            if post.seat.key != key:
                post.seat = Seat(key)
            self._shelf.put(post.seat, post.homes, post.columns)
            post.shelved = True
        self._fresh.clear()

    def _unshelve(self, post: Post) -> None:
        if post.shelved:
            self._shelf.take(post.seat, post.homes)
            post.shelved = False


def drop(groups: dict[str, set[str]], name: str, member: str) -> None:
    """Take a member out of a group, and the group away when it is empty."""
    group = groups.get(name)
    if group is not None:
        group.discard(member)
        if not group:
            del groups[name]
