"""Orders: what the core wants done, in the imperative, each frozen.

The engine journals them with the event that caused them and carries them out after the commit. Adapters never answer a
command; what comes of it comes back as an event. Ids of ours (`<call>-<kind><n>`) are chosen here, before anything is asked
of Asterisk, so that no answer can race its event.

`repeatable` says that carrying the command out twice does no harm, so that it may go out while the store cannot be
written; `outward` that it has an effect outside the PBX, before which the commit is made durable (FULL).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

from app.core.frozen import frozen


@frozen
class Command:
    """An order about one call."""

    call: str
    repeatable: ClassVar[bool] = True
    outward: ClassVar[bool] = False


# ---- for the PBX ------------------------------------------------------------------------------------------------------


@frozen
class Answer(Command):
    """Answer the caller's channel."""


@frozen
class Play(Command):
    """Play media to the caller, one after another, under one id.

    Each item is `text:<words to speak>`, `de:<words to speak in German>` and so on, `sound:<file>`, `digits:<0-9*#>`, `number:<n>`,
    `characters:<text>`, or `recording:<id of ours>`. Answered by `PlaybackEnded` in every case.
    """

    playback: str
    media: tuple[str, ...]
    language: str = "en"


@frozen
class StopPlay(Command):
    """Stop a playback; it then ends as usual. One that has ended is silence."""

    playback: str


@frozen
class StartRecord(Command):
    """Record what the caller says, after a beep, in Asterisk, under an id of ours.

    It ends by a key of `terminator` (`#`, `*`, `any` or `none`), after `silence` seconds of it, or after `seconds` in all; it goes on
    though we are away. Answered by `RecordingEnded` in every case.
    """

    recording: str
    seconds: int
    silence: int
    terminator: str = "#"


@frozen
class StopRecord(Command):
    """End a recording now; it then ends as usual. One that has ended is silence."""

    recording: str


@frozen
class StartMusic(Command):
    """Music on hold for the caller, until `StopMusic` or a conversation."""

    music: str = "default"


@frozen
class StopMusic(Command):
    """No more music for the caller."""


@frozen
class MarkPlace(Command):
    """Write the caller's place on the channel itself, as `CW_*` variables, so that the fallback can keep it without us.

    `first` is the first enqueue time in epoch seconds, `priority` the credit in seconds.
    """

    queue: str
    first: float
    priority: float


@frozen
class RingAgent(Command):
    """Create a leg, join it to the caller's bridge (made when it is not there), and dial it. `alone`: there is no caller (any more).

    `endpoint` is a phone by its name in the agents' file, never a dial string. `seconds` is how long it may ring.
    Answered by `LegRinging`, `LegAnswered`, and in every case at last `LegEnded`.
    """

    repeatable: ClassVar[bool] = False
    leg: str
    bridge: str
    endpoint: str
    seconds: float
    ani: str = ""
    name: str = ""
    alone: bool = False


@frozen
class RingOutside(Command):
    """As `RingAgent`, but dial a number through a trunk: a call that costs money. `number` is digits, with a plus before them or not."""

    repeatable: ClassVar[bool] = False
    outward: ClassVar[bool] = True
    leg: str
    bridge: str
    trunk: str
    number: str
    seconds: float
    alone: bool = False


@frozen
class JoinBridge(Command):
    """Put the caller and a leg into a bridge (after a take-over found one of them outside)."""

    bridge: str
    leg: str


@frozen
class Talk(Command):
    """Agent and customer are there: stop whatever the customer still hears besides the agent."""

    bridge: str
    leg: str


@frozen
class HangUpLeg(Command):
    """End a leg, ringing or up. One that has gone is silence."""

    leg: str
    cause: int = 16


@frozen
class HangUp(Command):
    """End the caller's channel. One that has gone is silence."""

    cause: int = 16


FOR_GOOD: Mapping[str, str] = {"CW_RELEASED": "1"}
"""The mark of a caller whom a flow released, and who therefore is not brought back."""


@frozen
class Release(Command):
    """Give the caller back to the dialplan, with `CW_*` variables of ours. Answered by `CallerLeft`."""

    context: str
    variables: Mapping[str, str] = field(default_factory=dict)


@frozen
class DropBridge(Command):
    """Destroy a bridge of ours, after its channels have left. One that has gone is silence."""

    bridge: str


@frozen
class QueueLog(Command):
    """One line of Asterisk's queue_log: `event` in its own vocabulary (ENTERQUEUE, CONNECT, ...)."""

    repeatable: ClassVar[bool] = False
    uniqueid: str
    queue: str
    agent: str
    event: str
    values: tuple[str, ...] = ()


# ---- for the outside --------------------------------------------------------------------------------------------------


@frozen
class StartAction(Command):
    """Begin a described method of another system. Answered by `ActionSucceeded` or `ActionFailed` in `budget` seconds.

    What a caller typed into a sensitive input is hidden in `params`. `hidden` names those parameters; `secret` has their values, and is
    never written down.
    """

    request: str
    action: str
    params: Mapping[str, Any]
    budget: float = 2.5
    hidden: tuple[str, ...] = ()
    secret: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False, metadata={"kept": False})

    @property
    def sent(self) -> Mapping[str, Any]:
        """The parameters with their values, for the other system alone."""
        return {**self.params, **self.secret} if self.hidden else self.params


@frozen
class SendMail(Command):
    """Send one message, already rendered; `request` becomes its Message-ID. Answered by `MailSent` or `MailFailed`.

    `attachment` is the id of a recording that goes with it, or "".
    """

    repeatable: ClassVar[bool] = False
    outward: ClassVar[bool] = True
    request: str
    to: str
    subject: str
    body: str
    budget: float = 8.0
    attachment: str = ""


@frozen
class SendSms(Command):
    """Send one text message; `request` is what a gateway knows a repetition by. Answered by `SmsSent` or `SmsFailed`."""

    repeatable: ClassVar[bool] = False
    outward: ClassVar[bool] = True
    request: str
    to: str
    text: str
    budget: float = 8.0


@frozen
class KeepRecording(Command):
    """Copy a finished recording from Asterisk to our own shelf, or (`move`) leave none there.

    Answered by `RecordingKept` or `RecordingLost`.
    """

    request: str
    recording: str
    move: bool = False


@frozen
class DropRecording(Command):
    """Delete a recording, in Asterisk and on our shelf. One that has gone is silence."""

    recording: str


@frozen
class StartBot(Command):
    """Connect the caller's sound, both ways, with a program that the settings name, and keep it so.

    Answered by `BotBegan`, and in every case at last by `BotEnded`. `again`: an earlier process had it connected once already.
    """

    request: str
    bot: str
    again: bool = False


@frozen
class TellBot(Command):
    """A message for the program: its `type` (`start`, `key`, `session`) and what it says. One that has gone is silence."""

    repeatable: ClassVar[bool] = False
    request: str
    type: str
    values: Mapping[str, Any] = field(default_factory=dict)


@frozen
class StopBot(Command):
    """Take the caller back from the program, which is told so. One that has gone is silence."""

    request: str


# ---- for the agents' desks --------------------------------------------------------------------------------------------


@frozen
class Pop(Command):
    """Show an offer with its record on the agent's screen. Answered by `DeskAcknowledged`, if a desk is there."""

    agent: str
    offer: str
    card: Mapping[str, Any]


@frozen
class WithdrawPop(Command):
    """The offer is off; `reason` is what the agent is told."""

    agent: str
    offer: str
    reason: str
