"""What is outside of the core in production, in a test: the PBX, the agents' phones and desks, other systems, the mail server.

Each command of the core is carried out here: it changes what a caller hears, rings a phone, or has something come of it a little later.
A command that nobody here knows is no mistake by itself, but the test that met it fails, unless it says with `centre.on` what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from app.core import commands as do
from app.core import events as ev
from app.testing import sound
from app.testing.agent import DESK_SHOWS_AFTER, VirtualAgent
from app.testing.caller import Heard

if TYPE_CHECKING:
    from app.testing.centre import VirtualCentre

AT_ONCE = 0.02
"""Seconds that the PBX takes for what it does at once."""
UNREACHABLE = 20
ANSWERS_AFTER = 5.0
"""Seconds until a customer answers who is called back, unless the test says otherwise."""

Answer: TypeAlias = Callable[[Any], "ev.Event | tuple[float, ev.Event] | None"]


class Outside:
    """Everything around one core."""

    def __init__(self, centre: VirtualCentre) -> None:
        self._centre = centre
        self.unknown: dict[str, None] = {}
        """Commands that nobody carried out."""
        self.takers: dict[type[Any], Callable[[Any], None]] = {
            do.Answer: self._answer,
            do.Play: self._play,
            do.StopPlay: self._stop_play,
            do.StartMusic: self._start_music,
            do.StopMusic: self._stop_music,
            do.RingAgent: self._ring,
            do.RingOutside: self._ring_outside,
            do.Talk: self._talk,
            do.HangUpLeg: self._hang_up_leg,
            do.HangUp: self._hang_up,
            do.Release: self._release,
            do.StartAction: self._start_action,
            do.SendMail: self._send_mail,
            do.Pop: self._pop,
            do.WithdrawPop: self._nothing,
            do.MarkPlace: self._nothing,
            do.JoinBridge: self._nothing,
            do.DropBridge: self._nothing,
            do.QueueLog: self._nothing,
            do.StartBot: self._start_bot,
            do.TellBot: self._nothing,
            do.StopBot: self._nothing,
            ev.PlaybackEnded: self._playback_ended,
            ev.LegEnded: self._leg_ended,
        }
        """What carries out each kind of command, and what comes of each kind of event."""

    def on(self, command: type[do.Command], answer: Answer) -> None:
        """A test says what comes of a kind of command."""

        def carry(told: do.Command) -> None:
            come = answer(told)
            if come is not None:
                self._centre.later(*(come if isinstance(come, tuple) else (AT_ONCE, come)))

        self.takers[command] = carry

    def not_taken(self, command: do.Command) -> None:
        """Nobody carries this out."""
        self.unknown[type(command).__name__] = None

    def _playback_ended(self, event: ev.PlaybackEnded) -> None:
        self._centre.calls[event.call].ear.playing.pop(event.playback, None)

    def _nothing(self, command: do.Command) -> None:
        """Nobody in a test notices."""

    def _answer(self, command: do.Answer) -> None:
        self._centre.calls[command.call].ear.up = True

    def _play(self, command: do.Play) -> None:
        call = self._centre.calls[command.call]
        seconds = sound.seconds_of(command.media)
        call.ear.playing[command.playback] = self._centre.now + seconds
        call.played.append(Heard(self._centre.now, sound.text_of(command.media), command.media, call.core.step))
        self._centre.later(seconds, ev.PlaybackEnded(command.call, command.playback))

    def _stop_play(self, command: do.StopPlay) -> None:
        playing = self._centre.calls[command.call].ear.playing
        if command.playback in playing:
            playing[command.playback] = self._centre.now + AT_ONCE
            self._centre.later(AT_ONCE, ev.PlaybackEnded(command.call, command.playback))

    def _start_music(self, command: do.StartMusic) -> None:
        self._centre.calls[command.call].ear.music = True

    def _stop_music(self, command: do.StopMusic) -> None:
        self._centre.calls[command.call].ear.music = False

    def _hang_up(self, command: do.HangUp) -> None:
        self._centre.later(AT_ONCE, ev.CallerLeft(command.call, command.cause))

    def _release(self, command: do.Release) -> None:
        self._centre.later(AT_ONCE, ev.CallerLeft(command.call, elsewhere=True))

    def _start_action(self, command: do.StartAction) -> None:
        self._centre.later(*self._centre.action(command.action).answer(command, self._centre.calls[command.call].crm))

    def _send_mail(self, command: do.SendMail) -> None:
        self._centre.later(*self._centre.mailbox.answer(command))

    def _start_bot(self, command: do.StartBot) -> None:
        self._centre.bot(command.bot).begin(command)

    def _pop(self, command: do.Pop) -> None:
        agent = self._centre.agent(command.agent)
        agent.card = command.card
        if agent.has_desk:
            self._centre.later(DESK_SHOWS_AFTER, ev.DeskAcknowledged(command.agent, command.call, command.offer))

    def _ring(self, command: do.RingAgent) -> None:
        called = [agent for agent in self._centre.book.agents.values() if agent.endpoint == command.endpoint]
        if called:
            self._centre.agent(called[0].id).be_rung(command)
        else:
            self._centre.later(AT_ONCE, ev.LegEnded(command.call, command.leg, UNREACHABLE))

    def _ring_outside(self, command: do.RingOutside) -> None:
        """A customer who is called back answers, while the agent waits on the line; of other calls outside a test says what comes."""
        if not command.alone:
            self.not_taken(command)
            return
        for agent in self._centre.agents.values():
            if agent.leg and agent.leg.call == command.call:
                agent.leg.up = True
        self._centre.later(ANSWERS_AFTER, ev.LegAnswered(command.call, command.leg))

    def _with_leg(self, leg: str) -> VirtualAgent | None:
        return next((agent for agent in self._centre.agents.values() if agent.leg and agent.leg.id == leg), None)

    def _talk(self, command: do.Talk) -> None:
        ear = self._centre.calls[command.call].ear
        ear.music, ear.talking = False, True
        agent = self._with_leg(command.leg)
        if agent is not None:
            agent.talk()

    def _hang_up_leg(self, command: do.HangUpLeg) -> None:
        agent = self._with_leg(command.leg)
        if agent is not None:
            self._centre.later(AT_ONCE, agent.ending(command.cause))

    def _leg_ended(self, event: ev.LegEnded) -> None:
        agent = self._with_leg(event.leg)
        if agent is not None:
            if agent.leg and agent.leg.up:
                self._centre.calls[event.call].ear.talking = False
            agent.hung_up()
