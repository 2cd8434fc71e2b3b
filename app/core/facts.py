"""What the core itself brought about: steps entered, calls queued, offers ended.

Facts are derived, never fed in; they are journaled between the event that caused them and its commands, and are what a
timeline, the boards, queue_log and the reports are folded from. Those that a flow step waits for (`Outcome`) are fed to it again
when it is driven anew after a take-over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from app.core.frozen import frozen


@frozen
class Fact:
    """Something the core brought about."""

    call: str


@frozen
class FlowBegan(Fact):
    """The call runs this version of a flow to its end. `staff` is the hash of the queues and agents there are."""

    flow: str
    version: str
    staff: str = ""


@frozen
class StepEntered(Fact):
    """The flow entered a step, which `does` this kind of thing; `n` counts the steps of this call."""

    step: str
    does: str
    n: int


@frozen
class StepLeft(Fact):
    """The flow left a step by one of its exits."""

    step: str
    exit: str


@frozen
class VariableSet(Fact):
    """A step stored a value under a name; `value` is masked where the flow says so."""

    name: str
    value: Any


@frozen
class Queued(Fact):
    """The call waits in a queue. `credit` seconds move it forward (or back), `first` is its first enqueue time."""

    queue: str
    skills: Mapping[str, int]
    credit: float
    first: float
    position: int


@frozen
class Offered(Fact):
    """The call is reserved for one agent; `decision` is the record of what the ACD saw."""

    agent: str
    offer: str
    decision: Mapping[str, Any] = field(default_factory=dict)


@frozen
class OfferEnded(Fact):
    """The offer came to nothing: `no_answer`, `busy`, `rejected`, `unreachable`, `withdrawn`, `failed`."""

    agent: str
    offer: str
    reason: str


@frozen
class Connected(Fact):
    """Caller and agent talk. `waited` is seconds since the first enqueue."""

    agent: str
    offer: str
    waited: float


@frozen
class TalkEnded(Fact):
    """The conversation is over; `by` is `caller`, `agent` or `lost`. `talked` is in seconds."""

    agent: str
    by: str
    talked: float


@frozen
class Outcome(Fact):
    """What a step that waits for somebody to talk to learns.

    A `queue` step: `talked`, `no_agents`, `too_long`, `withdrawn`. A `transfer` step: `talked`, `no_answer`, `busy`, `failed`.
    A `callback` step: `allowed`, `booked`, `failed`.
    """

    outcome: str


@frozen
class Transferred(Fact):
    """The caller talks to the number, or the agent, that a flow transferred the call to."""

    to: str


@frozen
class TransferEnded(Fact):
    """The transfer is over: as `Outcome` names it. `talked` is in seconds."""

    outcome: str
    talked: float = 0.0


@frozen
class CallbackBooked(Fact):
    """The caller will be called back, with the place in the queue from `first` on (epoch seconds); dialled `attempts` times at most.

    `begins` is the day and time before which nobody is, on the clocks of the step's calendar; "" is at once.
    """

    queue: str
    first: float
    attempts: int
    begins: str = ""


@frozen
class CallbackTried(Fact):
    """A customer was not reached: `busy`, `no_answer`, `failed`, `agent_left`, or `closed` (not dialled). `left`: tries there are still."""

    outcome: str
    left: int


@frozen
class CallbackEnded(Fact):
    """The callback is over: `called_back` (the customer talked to an agent) or `not_reached`."""

    outcome: str


@frozen
class TakenOver(Fact):
    """Another process goes on with the call from here. `last` is when the one before was last alive; 0: not told."""

    last: float = 0.0


@frozen
class CallEnded(Fact):
    """The call is over, once.

    `outcome` is one of `answered` (an agent talked to the caller), `abandoned` (left while waiting for one), `self_service`
    (the flow said goodbye, or took a message), `transferred` (talked to somebody outside), `hung_up` (left before any of these),
    `released` (back to the dialplan), `lost_media_server`, `booked` (to be called back; its `CallbackEnded` follows).
    """

    outcome: str
    cause: int
    seconds: float


@frozen
class WrapUpEnded(Fact):
    """The agent's work after the call is done, by button or by deadline."""

    agent: str
    disposition: str
    remarks: str
    seconds: float


@frozen
class Noticed(Fact):
    """Something that a person who reads the call's timeline should see."""

    what: str
    detail: str = ""


@frozen
class VersionChanged(Fact):
    """A version of a flow is `active`, `canary`, `retired` or `taken_back` from now on; `call` is always ""."""

    flow: str
    number: int
    version: str
    state: str
    why: str = ""
