"""Facts: what happened, in the past tense, each frozen.

An event is the only way into the core (`Center.handle(event, now)`). Adapters make them; the engine journals them in the
order it handled them, and a replay feeds the same ones again. Fields hold plain JSON values only, so that a record in the
journal is the event and nothing else (`app.core.record` packs and unpacks them).

Times inside an event are seconds since the epoch on the engine's clock. Causes are Q.850 numbers (16 Normal Clearing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeAlias

from app.core.frozen import frozen

Json: TypeAlias = Any


@frozen
class Event:
    """Anything that happened."""


@frozen
class CallEvent(Event):
    """Something that happened to one call; `call` is our own random id (32 hex digits), minted by the PBX adapter."""

    call: str


# ---- the PBX: the caller's own channel -------------------------------------------------------------------------------


@frozen
class CallArrived(CallEvent):
    """A caller's channel entered the application.

    `channel` is Asterisk's id of it; `up` says that it is answered already (it came back from the fallback, or we missed
    its arrival). `returning` holds what the fallback kept for us: `queue`, `first_enqueue` (epoch seconds), `priority`.
    """

    channel: str
    ani: str = ""
    name: str = ""
    dnis: str = ""
    uniqueid: str = ""
    linkedid: str = ""
    up: bool = False
    returning: Mapping[str, Json] = field(default_factory=dict)


@frozen
class CallerLeft(CallEvent):
    """The caller's channel is no longer ours: hung up by either side, or (`elsewhere`) continued in the dialplan. Comes once."""

    cause: int = 16
    elsewhere: bool = False


@frozen
class DigitPressed(CallEvent):
    """One DTMF key of the caller: one of `0-9*#ABCD`."""

    digit: str


@frozen
class SecretKey(CallEvent):
    """A key of the caller for a sensitive input, in place of its `DigitPressed`: the `count`th of a try, or 0 for one that counts nothing.

    The latter may come before the input is there.

    `ended` is how the try ends by it ("": not yet), `paused` how it ends if nothing more comes.
    """

    count: int
    ended: str = ""
    paused: str = ""


@frozen
class PlaybackEnded(CallEvent):
    """A `Play` of ours has finished or was stopped; `ok` is False when nothing could be played.

    `unseen`: it was not there when it was looked for after a gap, so that it has ended or never began.
    """

    playback: str
    ok: bool = True
    unseen: bool = False


@frozen
class RecordingEnded(CallEvent):
    """A `StartRecord` of ours is over, by a key, silence, its length or the end of the caller.

    `reason` is "" when there is a recording, `failed` when Asterisk could not write it, `never_was` when it was ordered and is not
    there. `seconds` is its length in whole seconds, -1 where nobody knows.
    """

    recording: str
    reason: str = ""
    seconds: int = -1


# ---- the PBX: legs to agents ------------------------------------------------------------------------------------------


@frozen
class LegRinging(CallEvent):
    """The agent's phone rings (180 or 183)."""

    leg: str


@frozen
class LegAnswered(CallEvent):
    """The agent's phone was answered; the leg was in the caller's bridge before, so they hear each other already.

    `at` is when, in epoch seconds by Asterisk's clock, where that was a while ago and is known; 0 for just now.
    """

    leg: str
    at: float = 0.0


@frozen
class LegEnded(CallEvent):
    """A leg is gone. `cause` as the PBX gave it: 17 busy, 19 no answer, 20 unreachable, 21 declined, 26 cancelled by us.

    -1: it was ordered, and there never was one. -2: it rang when it was last seen; whether it was answered since, nobody saw.
    """

    leg: str
    cause: int = 16


@frozen
class CommandRefused(CallEvent):
    """The PBX refused a command of ours for good (not a 404 on something that has gone, which is silence)."""

    command: str
    ref: str
    reason: str


# ---- the PBX: the link ------------------------------------------------------------------------------------------------


@frozen
class PbxLost(Event):
    """The event link to Asterisk broke or went silent. Calls may well be up."""

    reason: str


@frozen
class PbxBack(Event):
    """The link is up again. `restarted` says that Asterisk itself began anew, so that no earlier call can be alive."""

    restarted: bool


@frozen
class CallFound(CallEvent):
    """Reconciliation met a live call of ours; comes after the events that it inferred for that call.

    `up`: the caller's channel is answered. `bridge`: the id of the bridge the caller is in, or "". `legs`: ids of ours
    that are alive, each "down", "ringing" or "up". `bridged`: those of them in the caller's bridge. `playbacks`: ids of ours still playing.
    """

    up: bool
    bridge: str = ""
    legs: Mapping[str, str] = field(default_factory=dict)
    bridged: tuple[str, ...] = ()
    playbacks: tuple[str, ...] = ()


# ---- actions, mail, sessions ------------------------------------------------------------------------------------------


@frozen
class ActionSucceeded(CallEvent):
    """An action's answer, already reduced to the typed response attributes it declares."""

    request: str
    values: Mapping[str, Json]
    ms: int = 0


@frozen
class ActionFailed(CallEvent):
    """An action failed. `reason`: timeout, refused, status, fault, auth, malformed, too_big, breaker_open, busy, guard, bad_request."""

    request: str
    reason: str
    detail: str = ""
    ms: int = 0


@frozen
class MailSent(CallEvent):
    """The mail server took the message."""

    request: str


@frozen
class MailFailed(CallEvent):
    """The mail server refused the message, or could not be reached."""

    request: str
    reason: str


@frozen
class SmsSent(CallEvent):
    """The gateway took the text message."""

    request: str


@frozen
class SmsFailed(CallEvent):
    """No text message: `bad_number`, `bad_text`, `refused` (by the gateway), `unreachable`, `timeout` (it may have been sent).

    `not_set_up`: the settings name no gateway.
    """

    request: str
    reason: str


@frozen
class RecordingKept(CallEvent):
    """A recording is on our own shelf, under its name. `voiced` is how many seconds of it are no silence."""

    request: str
    voiced: float


@frozen
class RecordingLost(CallEvent):
    """A recording could not be fetched from Asterisk, or not be written: `missing`, `unreachable`, `disk`."""

    request: str
    reason: str


@frozen
class BotBegan(CallEvent):
    """Caller and bot are connected. `bot` is the request by which it was asked for."""

    bot: str


@frozen
class BotEnded(CallEvent):
    """The bot has given the call back by `exit`, a name of its choice (`done` unless it says another), or is gone (`failed`).

    `reason` says why it is gone: `not_set_up`, `forbidden` (its address), `unreachable`, `closed`, `silent`, `media` (Asterisk's side).
    """

    request: str
    exit: str
    reason: str = ""


@frozen
class SessionEvent(CallEvent):
    """Another system's wish about a live call; refused (`SessionRefused`) where it cannot be granted."""


@frozen
class SessionWritten(SessionEvent):
    """Another system wrote variables (flat, under `ivr`) into a live call; null takes one away.

    `by` is who did, `expected` how many writes they had seen, where they care.
    """

    values: Mapping[str, Json]
    by: str = ""
    expected: int | None = None


@frozen
class CallSteered(SessionEvent):
    """Another system sent a live call to a named entry of its flow."""

    entry: str
    by: str = ""


# ---- agents -----------------------------------------------------------------------------------------------------------


@frozen
class AgentEvent(Event):
    """Something that happened to one agent."""

    agent: str


@frozen
class AgentSignedIn(AgentEvent):
    """The agent signed in at a desk."""


@frozen
class AgentSignedOut(AgentEvent):
    """The agent signed out."""


@frozen
class AgentBecameReady(AgentEvent):
    """The agent asked for work."""


@frozen
class AgentBecameNotReady(AgentEvent):
    """The agent wants no more work, for a reason."""

    reason: str = ""


@frozen
class AgentFinishedWrapUp(AgentEvent):
    """The agent completed the work after a call."""

    call: str
    disposition: str = ""
    remarks: str = ""


@frozen
class AgentRejected(AgentEvent):
    """The agent declined an offer at the desk."""

    call: str


@frozen
class AgentHungUp(AgentEvent):
    """The agent ended the conversation at the desk."""

    call: str


@frozen
class DeskAcknowledged(AgentEvent):
    """The desk shows the pop of this call's offer."""

    call: str
    offer: str


@frozen
class DeskFound(AgentEvent):
    """A desk of the agent is connected."""


@frozen
class DeskLost(AgentEvent):
    """No desk of the agent is connected any more."""


@frozen
class AgentPhoneChanged(AgentEvent):
    """The agent's phone: reachable (registered and answering), and in use by anything at all."""

    reachable: bool
    in_use: bool = False


# ---- ourselves --------------------------------------------------------------------------------------------------------


@frozen
class TimerFired(Event):
    """A deadline of the core has passed. `owner` is a call's id, `agent:<id>` or "" (the centre); `timer` is the core's name for it."""

    owner: str
    timer: str


@frozen
class TookOver(Event):
    """This process continues what an earlier one left. `last` is the last time the earlier one wrote anything, if only its lease.

    The rest is what a replay needs to take over as this process did: whether it was blind at first, the hash of its queues and agents, its
    flows (`name version`, in order), the agents' rows that it found, and the versions of the program itself and of its evaluators.
    """

    last: float
    calls: int
    blind: bool = False
    staff: str = ""
    flows: tuple[str, ...] = ()
    agents: Mapping[str, Json] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)


@frozen
class CircumstancesChanged(Event):
    """The engine set one of the centre's attributes of these names since the event before. Journaled for replays, never handled."""

    admitting: bool
    blind: bool
    store_away: bool


@frozen
class StepFailed(CallEvent):
    """Something in the handling of one call raised; the call takes its error exit."""

    error: str


@frozen
class FlowPublished(Event):
    """Somebody publishes a flow's program, known by its hash `version`: a new number, or the one that this content has already.

    Every caller gets it, or where there is a `share` (0 to 100 percent of calls) or `numbers` only those, watched by `guard` (`calls`,
    `margin`). `tag` is that of the flow's versions when this was decided; "" where it does not matter.
    """

    flow: str
    version: str
    by: str
    note: str = ""
    share: float | None = None
    numbers: tuple[str, ...] = ()
    guard: Mapping[str, Json] = field(default_factory=dict)
    tag: str = ""


@frozen
class FlowsRead(Event):
    """The application has started, and these are the programs in the project's files: hash by flow.

    `versions` are the rows of all versions that there are by then (`app.core.versions`), so that a replay begins with the same.
    """

    files: Mapping[str, str]
    versions: tuple[Mapping[str, Json], ...] = ()
