"""The resources of the public API. Times are seconds since the epoch, durations seconds, ids strings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, model_validator

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,80}$")]
Prose = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$", max_length=4000)]


class Answer(BaseModel):
    """Something we say: only what is described here leaves the house."""

    model_config = ConfigDict(extra="ignore", json_schema_serialization_defaults_required=True)


class Ask(BaseModel):
    """Something we are told: nothing undescribed is taken."""

    model_config = ConfigDict(extra="forbid")


class Call(Answer):
    """One customer's visit, from arrival to disposition."""

    id: str
    state: str = Field(
        description="`flow`, `waiting`, `booked` (to be called back), `offered`, `dialling` (back), `talking`, `wrap_up` or `ended`"
    )
    flow: str = ""
    version: str = ""
    step: str = ""
    ani: str = Field(default="", description="the caller's number")
    dnis: str = Field(default="", description="the number that was dialled")
    name: str = ""
    tier: str = ""
    reference: str = ""
    contact: str = Field(default="", description="the person's id in the CRM")
    queue: str = ""
    position: int | None = Field(default=None, description="place in the queue, from 1")
    skills: dict[str, int] = Field(default_factory=dict)
    agent: str = ""
    arrived: float
    entered: float | None = Field(default=None, description="when the call came to its step")
    queued: float | None = None
    connected: float | None = None
    ended: float | None = None
    outcome: str = ""
    cause: int | None = Field(default=None, description="Q.850, such as 16 for normal clearing")
    channel: str = ""
    uniqueid: str = ""
    linkedid: str = ""


class LiveSession(Answer):
    """The variables of a live call. `version` goes up by one with each write; it is the ETag too."""

    call: str
    version: int
    step: str = Field(description="the step of the flow that the call is at")
    variables: dict[str, dict[str, Any]] = Field(
        description="by space: `call`, `ivr` (what other systems wrote), `vars` (what the flow keeps), and the records that it looked up"
    )


class CallList(Answer):
    """Calls: live ones oldest first, ended ones newest first."""

    calls: list[Call]


class TimelineEntry(BaseModel):
    """One thing that happened, with the fields of its type beside it."""

    model_config = ConfigDict(extra="allow", json_schema_serialization_defaults_required=True)

    at: float
    kind: Literal["event", "fact", "command"]
    type: str


class Timeline(Answer):
    """A call's journal in order, digits masked."""

    call: str
    entries: list[TimelineEntry]


class Contact(BaseModel):
    """The person's record in the CRM; further fields as the CRM gives them."""

    model_config = ConfigDict(extra="allow", json_schema_serialization_defaults_required=True)

    id: str = ""
    first_name: str = ""
    last_name: str = ""
    reference: str = ""
    record_url: str = ""


class Card(BaseModel):
    """What an agent sees of an interaction before the phone rings."""

    model_config = ConfigDict(extra="ignore", json_schema_serialization_defaults_required=True)

    queue: str = ""
    queue_title: str = ""
    skills: dict[str, int] = Field(default_factory=dict)
    tier: str = ""
    caller: str = ""
    name: str = Field(default="", description="the name that the caller's line gives; nobody has verified it")
    contact: Contact | None = None
    reference: str = ""
    waited: float = 0
    position: int | None = None
    flow: str = ""
    collected: dict[str, Any] = Field(default_factory=dict)
    wrap_up: float = Field(default=0, description="seconds that the agent has for the work after the call")
    dispositions: list[str] = Field(default=["solved", "follow_up", "passed_on", "wrong_number"], description="outcomes to choose from")


class Hand(Answer):
    """What an agent has in hand."""

    phase: Literal["offered", "connecting", "talking", "held", "wrap_up"]
    call: str
    offer: str = ""
    card: Card = Field(default_factory=Card)
    ringing: bool = Field(default=False, description="the agent's phone rings")
    since: float | None = None
    until: float | None = Field(default=None, description="when the wrap-up ends by itself")


class Agent(Answer):
    """One agent, as of now."""

    id: str
    name: str = ""
    presence: str = Field(description="`signed_out`, `not_ready` or `ready`")
    work: str = Field(default="", description="`offered`, `connecting`, `talking`, `held`, `wrap_up` or empty")
    reason: str = ""
    pending: str = Field(
        default="", description="`not_ready` or `sign_out`: what takes effect when the work in hand is done; `ready` takes it back"
    )
    call: str = ""
    skills: dict[str, int] = Field(default_factory=dict)
    phone: str = Field(default="", description="`reachable`, `in_use` or `unreachable`")
    since: float | None = None
    hand: Hand | None = None


class AgentList(Answer):
    """Every agent."""

    agents: list[Agent]


class Waiting(Answer):
    """A call in a queue."""

    call: str
    position: int
    since: float | None = None
    skills: dict[str, int] = Field(default_factory=dict)


class Queue(Answer):
    """A named line with its rules."""

    name: str
    title: str = ""
    waiting: int
    longest_wait: float = 0
    agents: dict[str, int] = Field(default_factory=dict, description="able agents by state")
    calls: list[Waiting] = Field(default_factory=list)


class QueueList(Answer):
    """Every queue."""

    queues: list[Queue]


class Flow(Answer):
    """A flow, as new callers get it."""

    name: str
    title: str = ""
    numbers: list[str] = Field(default_factory=list, description="the dialled numbers that it answers")
    active: int | None = Field(default=None, description="the version that callers get")
    canary: int | None = Field(default=None, description="the version that some callers get first")
    versions: int = Field(description="how many there are")


class FlowList(Answer):
    """Every flow, by name."""

    flows: list[Flow]


class Guard(BaseModel):
    """When a version for some callers is taken back: one of its figures is worse than the active version's by more than `margin`."""

    model_config = ConfigDict(extra="forbid")

    calls: int = Field(default=50, ge=1, le=200, description="calls that must have ended before, and that are looked back on")
    margin: float = Field(default=0.15, ge=0, le=1, description="0.15 is 15 points")


class Figures(Answer):
    """Shares (0 to 1) of the last calls of a version that ended, 200 at most."""

    abandons: float = Field(description="the caller left before the flow said goodbye or an agent answered")
    failures: float = Field(description="a step left by `failed`, or the call took the flow's error exit")
    defaults: float = Field(description="a step left by `no_match`, `no_input`, `no_agents` or `too_long`")


class FlowVersion(Answer):
    """A numbered version of a flow."""

    flow: str
    number: int
    hash: str = Field(description="of all that can change what a call does; `version` of a call")
    state: Literal["active", "canary", "retired", "taken_back"]
    published_at: float
    by: str = Field(description="who published it; `files` where the application found it in the project's files as it started")
    note: str = ""
    share: float = Field(default=0, description="percent of calls that get it while it is a canary")
    numbers: list[str] = Field(default_factory=list, description="callers who get it while it is a canary")
    guard: Guard
    why: str = Field(default="", description="why it was taken back")
    calls: int = Field(default=0, description="live calls that run it")
    ended: int = Field(default=0, description="ended calls that the figures look back on")
    figures: Figures


class FlowVersions(Answer):
    """Versions of a flow, the newest first."""

    versions: list[FlowVersion]


class FlowProgram(Answer):
    """A version's program, with the keys of a flow file; `outputs` are the types that the actions' attributes had."""

    program: dict[str, Any]


class FlowChange(Answer):
    """One change for callers."""

    kind: Literal["program", "changed", "appears", "vanishes"]
    text: str = Field(description="the change as a sentence")
    who: list[str] = Field(description="what the callers have in common whom it befalls; for `program`, what changes")
    before: list[str]
    after: list[str]
    ways: int = Field(description="ways through the flow on which it happens")


class FlowDiff(Answer):
    """What changes for callers from one version to another."""

    changes: list[FlowChange]


class Alive(Answer):
    """The process answers."""

    alive: Literal[True] = True


class Part(Answer):
    """One part of the house."""

    ok: bool
    why: str = ""


class Health(Answer):
    """Whether calls can be taken, and if not, for want of what."""

    ready: bool
    parts: dict[str, Part]


class PlaceProblem(Answer):
    """One wrong place in what was sent."""

    at: str
    why: str


class ProblemDocument(Answer):
    """RFC 9457. `type` is stable, `request_id` is in our log."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[PlaceProblem] | None = None


# ---- what we are told -------------------------------------------------------------------------------------------------


class CallsQuery(Ask):
    """Which calls."""

    state: Literal["active", "ended", "all"] = "active"
    limit: int = Field(default=100, ge=1, le=1000)
    before: float | None = Field(default=None, ge=0, description="only calls that ended before this time")


Percent = Annotated[float, Field(ge=0, le=100)]
PhoneNumber = Annotated[str, StringConstraints(pattern=r"^\+?[0-9][0-9 ()./-]{1,39}$")]


class Release(Ask):
    """Who gets a version: everybody at once, or where there is a `share` or `numbers` only those, until it is activated or taken back."""

    share: Percent | None = Field(default=None, description="percent of calls")
    numbers: list[PhoneNumber] = Field(default_factory=list, max_length=1000, description="callers' numbers, compared by their digits")
    guard: Guard | None = None
    note: Prose = ""


class NewVersion(Release):
    """A flow: the text of a flow file, or the same keys as JSON. `name` is what the text is called where its mistakes are told."""

    yaml: Annotated[str, StringConstraints(max_length=1 << 20)] | None = None
    program: dict[str, Any] | None = None
    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")] = "flow"

    @model_validator(mode="after")
    def _one_of_both(self) -> NewVersion:
        if (self.yaml is None) == (self.program is None):
            raise ValueError("give either yaml or program")
        return self


class DiffQuery(Ask):
    """Which two versions."""

    before: int = Field(alias="from", ge=1)
    after: int = Field(alias="to", ge=1)


class PictureQuery(Ask):
    """Which version."""

    version: int | None = Field(default=None, ge=1, le=10**9)


class Nothing(Ask):
    """No fields."""


class NotReady(Ask):
    """Why no more work is wanted."""

    reason: Word = ""


class OneCall(Ask):
    """Which call."""

    call: Id


class WrapUpDone(Ask):
    """The outcome of a call, by the agent."""

    call: Id
    disposition: Word = ""
    remarks: Prose = ""


class SessionWrite(RootModel[dict[str, Any]]):
    """Variables to write, as `{"ivr.email": ..}` or `{"ivr": {"email": ..}}`: texts, numbers, true, false; null takes one away."""


class Goto(Ask):
    """Where a live call goes on: an entry that its flow names."""

    entry: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class SignIn(Ask):
    """An agent at a desk."""

    agent: Id
    pin: Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Session(Answer):
    """A desk's session, and where CRM records may be shown from."""

    agent: str
    record_origins: list[str]


# ---- what goes over the desk's websocket ------------------------------------------------------------------------------


class DeskMessage(Answer):
    """One message to a desk. Whatever the type says, `agent` and `hand` are the whole state after it.

    `offer` asks to be answered by `Shown`; `withdrawn` has a `reason`; `snapshot` comes once after connecting.
    `seq` goes up by one; a page that misses one connects again. `beat` repeats the last one every few seconds: a page that hears
    nothing for two of them has lost the connection.
    """

    type: Literal["snapshot", "beat", "offer", "ringing", "withdrawn", "state", "talking", "wrap_up", "ended"]
    seq: int
    now: float
    agent: Agent | None
    hand: Hand | None
    reason: str = ""


class Shown(Ask):
    """The desk shows this offer."""

    type: Literal["shown"]
    offer: Id
    call: Id
