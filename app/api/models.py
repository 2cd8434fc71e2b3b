"""The resources of the public API. Times are seconds since the epoch, durations seconds, ids strings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

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
    state: str = Field(description="`flow`, `waiting`, `offered`, `talking`, `wrap_up` or `ended`")
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
