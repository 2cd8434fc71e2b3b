"""A1: the application is killed at each step of a call, before and after it writes things down and does them.

Each scene is a real call with a real caller, and an agent on a softphone where one is needed. It is told at which failpoint the application
dies, brings the call to it, lets the next process go on, and follows the call to its ordinary end. Nobody is cut off, what was
to be heard goes on, no step runs twice, no phone rings twice, no mail is a second message.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias

from tests.e2e.house import LATE, MAILED, NO_MAIL, PREMIUM, UNKNOWN, LiveHouse
from tests.faults.case import AGENT_TONE, Case, dies, ended_as, found_after, insist, start, start_armed, talk, told, under_control_soon
from tests.phones import AgentPhone, Caller, until

POINTS = ("before_handled", "before_persist", "after_persist", "after_command")
ORDERS = dict.fromkeys(("SendMail", "SendSms", "StartAction", "StartBot"), "request") | {"Play": "playback", "RingAgent": "leg"}
"""What is ordered twice at most over one death of the application, and the key that says which two are the same order."""
REFERENCE = "4424777"
"""Of a premium customer, who calls from a number that nobody knows."""


class Scene:
    """One call over the death of the application."""

    def __init__(self, house: LiveHouse, failpoint: str, stack: ExitStack, **environment: str) -> None:
        self.house, self.stack, self._environment = house, stack, environment
        start_armed(house, failpoint, **environment)
        self._before = {row["id"] for row in house.api("/v1/calls?state=all&limit=1000")["calls"]}
        self._mails = {mail["id"] for mail in house.mails()}
        self.measured: dict[str, Any] = {}

    def agent(self, agent: str, **how: Any) -> AgentPhone:
        return self.stack.enter_context(self.house.agent_phone(agent, **{"ring": 0.5, **how}))

    def caller(self, number: str, dial: str = "1000") -> Caller:
        caller = Caller(self.house.installation.ports.sip, dial, number=number)
        self.stack.callback(caller.close)
        self.phone = caller
        return caller

    def crash(self) -> None:
        """The application has died; the next one takes over."""
        began = self.dies_and_is_started(cut_off=False)
        call = self.call
        if self.house.ended(call) is None:
            found = until(lambda: found_after(self.house, [call], began), 5, "the call to be found")
            assert isinstance(found, list)
            self.measured["regained"] = under_control_soon(found)

    def dies_and_is_started(self, *, cut_off: bool = True) -> float:
        """The application has died, and is started again; when that began. Without `cut_off` no caller may have been sent away."""
        dies(self.house)
        self.died = time.monotonic()
        assert cut_off or not self.phone.heard_of("released"), "the caller was cut off"
        return start(self.house, **self._environment)

    @property
    def call(self) -> str:
        """The id of the call; one that was never written down has none before the next process finds it."""
        rows = until(self._fresh, 10, "the call to be known")
        assert isinstance(rows, list)
        assert len(rows) == 1, f"one caller became {len(rows)} calls"
        return str(rows[0])

    def _fresh(self) -> list[str]:
        rows = insist(lambda: self.house.api("/v1/calls?state=all&limit=1000"))["calls"]
        return sorted({row["id"] for row in rows} - self._before)

    def state(self, state: str, within: float = 30.0) -> None:
        call = self.call
        until(lambda: insist(lambda: self.house.call(call))["state"] == state, within, f"state {state}: {told(self.house, call)}")

    def is_heard(self, within: float = 8.0) -> None:
        until(self.phone.rtp.hears_anything, within, "the caller to hear something")

    def unbroken(self) -> None:
        """The music went on since the application died; it has quiet bars of its own, but not for two seconds."""
        rtp, now = self.phone.rtp, time.monotonic()
        at = self.died
        while at == self.died or at + 2.0 < now:
            assert rtp.loudness(at, at + 2.0) > 50, f"{at - self.died:.1f} s after the crash nothing is heard"
            at += 0.5

    def talks_to_the_end(self, agent: AgentPhone) -> None:
        """The call reaches its agent, whose phone has rung once, and ends as it should."""
        self.state("talking")
        until(lambda: talk(self.phone, agent), 5, "both to hear one another")
        assert len(agent.sipp.logged("invite")) == 1, "the agent's phone rang twice for one call"
        agent.hang_up()
        self.ends("answered")

    def ends(self, outcome: str, within: float = 30.0) -> None:
        self.phone.wait_for("released", within)
        self.is_over(outcome)

    def is_over(self, outcome: str) -> None:
        ended_as(self.house, self.call, outcome)
        self.nothing_twice()

    def nothing_twice(self) -> None:
        entries = self.house.timeline(self.call)
        steps = Counter(entry["step"] for entry in entries if entry["type"] == "StepEntered")
        assert max(steps.values()) == 1, f"a step ran twice: {steps}"
        for kind, key in ORDERS.items():
            given = Counter(entry[key] for entry in entries if entry["type"] == kind)
            assert max(given.values(), default=0) <= 2, f"{kind} was ordered more than once again: {given}"
        assert sum(entry["type"] == "CallEnded" for entry in entries) == 1
        assert not [entry for entry in entries if entry["type"] == "Noticed" and entry["what"] == "error"], "the call took its error exit"

    def one_mail(self) -> None:
        new = [mail for mail in self.house.mails() if mail["id"] not in self._mails]
        assert len({mail["message_id"] for mail in new}) == 1, f"{len(new)} mails"
        self.measured["mails"] = len(new)

    def press(self, keys: str, step: str) -> None:
        """Type what a step has not taken yet, and all of it again when asked to."""
        known, prompts = self._count("DigitPressed"), self._count("Play")
        if self._has_left(step):
            return
        self.phone.rtp.press(keys[known:])
        until(lambda: self._has_left(step) or self._count("Play") > prompts, 15, "an answer to the keys")
        if not self._has_left(step):
            self.is_heard()
            self.phone.rtp.press(keys)

    def _has_left(self, step: str) -> bool:
        return any(entry["type"] == "StepLeft" and entry["step"] == step for entry in self.house.timeline(self.call))

    def _count(self, kind: str) -> int:
        return sum(entry["type"] == kind for entry in self.house.timeline(self.call))

    def press_into_the_crash(self, keys: str, step: str) -> None:
        """Type while the prompt of a step is heard; the application dies over it."""
        until(lambda: self._is_at(step), 30, f"step {step}")
        self.is_heard()
        self.phone.rtp.press(keys)

    def _is_at(self, step: str) -> bool:
        try:
            return any(row["id"] not in self._before and row["step"] == step for row in self.house.calls())
        except OSError:
            return True


# ---- the scenes -----------------------------------------------------------------------------------------------------------


def until_an_agent(scene: Scene) -> None:
    """A premium caller; the application dies somewhere on the way to the agent's hello."""
    agent = scene.agent("101")
    scene.caller(PREMIUM)
    scene.crash()
    scene.is_heard()
    scene.talks_to_the_end(agent)


def typing_a_reference(scene: Scene) -> None:
    agent = scene.agent("101")
    scene.caller(UNKNOWN)
    scene.press_into_the_crash(REFERENCE[:3], "ask_reference")
    scene.crash()
    scene.press(REFERENCE, "ask_reference")
    scene.talks_to_the_end(agent)


def choosing_in_a_menu(scene: Scene) -> None:
    agent = scene.agent("103")
    scene.caller(NO_MAIL)
    scene.press_into_the_crash("1", "offer_agent")
    scene.crash()
    scene.press("1", "offer_agent")
    scene.talks_to_the_end(agent)


def getting_a_mail(scene: Scene) -> None:
    scene.caller(MAILED)
    scene.crash()
    scene.ends("self_service", 60)
    scene.one_mail()


def waiting_for_an_agent(scene: Scene) -> None:
    agent = scene.agent("101", ready=False)
    scene.caller(PREMIUM)
    scene.crash()
    scene.state("waiting")
    scene.is_heard()
    scene.house.tell("101", "ready")
    scene.talks_to_the_end(agent)


def waiting_while_an_agent_gets_ready(scene: Scene) -> None:
    agent = scene.agent("101", ready=False)
    scene.caller(PREMIUM)
    scene.state("waiting")
    scene.is_heard()
    ask_and_die(lambda: scene.house.tell("101", "ready"))
    scene.crash()
    scene.unbroken()
    assert scene.house.agent("101")["presence"] == "not_ready", "what was never acknowledged never happened"
    scene.house.tell("101", "ready")
    scene.talks_to_the_end(agent)


def ask_and_die(asking: Callable[[], Any]) -> None:
    """Ask for something over whose handling the application dies."""
    try:
        asking()
    except OSError:
        return
    raise AssertionError("the application acknowledged what it did not live to write down")


def talking_at_the_crash(scene: Scene) -> None:
    agent = scene.agent("101")
    scene.caller(PREMIUM)
    scene.crash()
    agent.wait_for("answered", 10)
    until(lambda: scene.phone.rtp.hears(AGENT_TONE), 5, "the agent")
    scene.talks_to_the_end(agent)


def agent_hangs_up_into_the_crash(scene: Scene) -> None:
    agent = scene.agent("101")
    scene.caller(PREMIUM)
    scene.state("talking")
    until(lambda: talk(scene.phone, agent), 5, "both to hear one another")
    agent.hang_up()
    agent.wait_for("hungup")
    dies(scene.house)
    start(scene.house)
    until(lambda: scene.house.agent("101")["work"] == "wrap_up", 10, "wrap-up")
    scene.ends("answered")


def finishing_wrap_up(scene: Scene) -> None:
    agent = scene.agent("101")
    scene.caller(PREMIUM)
    scene.state("talking")
    until(lambda: talk(scene.phone, agent), 5, "both to hear one another")
    agent.hang_up()
    scene.phone.wait_for("released", 10)
    call = scene.call
    until(lambda: scene.house.agent("101")["work"] == "wrap_up", 10, "wrap-up")
    body = {"call": call, "disposition": "solved", "remarks": "said twice"}
    ask_and_die(lambda: scene.house.tell("101", "wrap-up-done", **body))
    dies(scene.house)
    start(scene.house)
    scene.house.tell("101", "wrap-up-done", **body)
    ends = [entry["disposition"] for entry in scene.house.timeline(call) if entry["type"] == "WrapUpEnded"]
    assert ends == ["solved"], ends
    assert scene.house.agent("101")["work"] == ""
    scene.is_over("answered")


def released_to_the_fallback(scene: Scene) -> None:
    caller = scene.caller(LATE)
    scene.crash()
    scene.is_over("released")
    assert not caller.heard_of("released"), "the caller was cut off"
    scene.is_heard(15)
    caller.hang_up()
    caller.wait_for("hungup")


def saying_goodbye(scene: Scene) -> None:
    scene.caller(NO_MAIL)
    until(lambda: scene._is_at("offer_agent"), 30, "the menu")
    scene.is_heard()
    scene.phone.rtp.press("2")
    dies(scene.house)
    start(scene.house)
    scene.ends("self_service")


Play: TypeAlias = Callable[[Scene], None]
SCENES: dict[str, tuple[Play, dict[str, str | tuple[Play, str]]]] = {
    "answer": (
        until_an_agent,
        {
            "before_handled": "CallArrived",
            "before_persist": "Answer",
            "after_persist": "Answer",
            "after_command": "Answer",
        },
    ),
    "play": (
        until_an_agent,
        {"before_handled": "PlaybackEnded", "before_persist": "Play", "after_persist": "Play", "after_command": "Play"},
    ),
    "lookup": (
        until_an_agent,
        {
            "before_handled": "ActionSucceeded",
            "before_persist": "StartAction",
            "after_persist": "StartAction",
            "after_command": "StartAction",
        },
    ),
    "collect": (
        typing_a_reference,
        {
            "before_handled": "DigitPressed:3",
            "before_persist": "DigitPressed:3",
            "after_persist": "DigitPressed:3",
            "after_command": "StopPlay",
        },
    ),
    "menu": (
        choosing_in_a_menu,
        {"before_handled": "DigitPressed", "before_persist": "DigitPressed", "after_persist": "DigitPressed", "after_command": "StopPlay"},
    ),
    "action": (
        getting_a_mail,
        {
            "before_handled": "ActionSucceeded:2",
            "before_persist": "StartAction:2",
            "after_persist": "StartAction:2",
            "after_command": "StartAction:2",
        },
    ),
    "mail": (
        getting_a_mail,
        {"before_handled": "MailSent", "before_persist": "SendMail", "after_persist": "SendMail", "after_command": "SendMail"},
    ),
    "enqueue": (
        waiting_for_an_agent,
        {
            "before_handled": (waiting_while_an_agent_gets_ready, "AgentBecameReady"),
            "before_persist": "Queued",
            "after_persist": "Queued",
            "after_command": "MarkPlace",
        },
    ),
    "offer": (
        until_an_agent,
        {"before_handled": "LegRinging", "before_persist": "Offered", "after_persist": "Offered", "after_command": "Pop"},
    ),
    "ring": (
        until_an_agent,
        {"before_handled": "LegAnswered", "before_persist": "LegRinging", "after_persist": "LegRinging", "after_command": "RingAgent"},
    ),
    "talk": (
        talking_at_the_crash,
        {
            "before_handled": (agent_hangs_up_into_the_crash, "LegEnded"),
            "before_persist": "Connected",
            "after_persist": "Connected",
            "after_command": "Talk",
        },
    ),
    "wrap-up": (
        agent_hangs_up_into_the_crash,
        {
            "before_handled": (finishing_wrap_up, "AgentFinishedWrapUp"),
            "before_persist": "TalkEnded",
            "after_persist": "TalkEnded",
            "after_command": "HangUp",
        },
    ),
    "release": (
        released_to_the_fallback,
        {"before_handled": "CallerLeft", "before_persist": "Release", "after_persist": "Release", "after_command": "Release"},
    ),
    "goodbye": (
        saying_goodbye,
        {"before_handled": "CallerLeft", "before_persist": "HangUp", "after_persist": "HangUp", "after_command": "HangUp"},
    ),
}
"""For each step the scene that passes it, and for each point what passes there: a type, its number, a scene of its own."""


Around: TypeAlias = Callable[[LiveHouse, ExitStack], dict[str, str]]
"""What a scene needs besides the installation, for as long as it lasts: the variables with which the application is started."""


def play(act: Play, failpoint: str, house: LiveHouse, *, around: Around | None = None) -> dict[str, Any]:
    """One scene, and what was measured in it."""
    with ExitStack() as stack:
        scene = Scene(house, failpoint, stack, **(around(house, stack) if around else {}))
        act(scene)
    house.check()
    return scene.measured


def cases(scenes: Mapping[str, Mapping[str, tuple[Play, str]]], around: Around) -> list[Case]:
    """The cases of a matrix: for each step and point the scene, and what passes there."""
    return [
        Case(f"A1/{step}/{point}", partial(play, act, f"{point}:{thing}", around=around))
        for step, points in scenes.items()
        for point, (act, thing) in points.items()
    ]


def _case(step: str, point: str) -> Case:
    act, passing = SCENES[step]
    what = passing[point]
    act, thing = (act, what) if isinstance(what, str) else what
    return Case(f"A1/{step}/{point}", partial(play, act, f"{point}:{thing}"))


CASES = [_case(step, point) for step in SCENES for point in POINTS]
