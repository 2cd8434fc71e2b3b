"""`make call`: real calls to the running demo, told as a person would want to read them.

    python -m tests.load.call [--state build/up] [--list] [scenario ...]

SIPp places each call, softphones of demo agents take it, and what happened is read over the public API. Each scenario says which way
through the flow it should take and how it should end; the exit status is 0 only if every one did, 1 when one did not, 2 when it
could not even be tried. Agents are signed in for a scenario and out afterwards, so nobody else may be signed in meanwhile.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from app.show_call import lines, table
from app.up import Installation
from tests.load.running import Running, attempt
from tests.phones import AgentPhone, Caller, until

PREMIUM, MAILED, LATE, NO_MAIL = (f"+493055500010{n}" for n in range(1, 5))
UNKNOWN = "+4930555000999"
GINA, NOBODY = "4424777#", "9999999#"
CALLER_TONE, AGENT_TONE = 1900.0, 1300.0
LISTENS = 1.5
"""Seconds that a caller listens before pressing keys."""
LIMIT = 90.0
"""Seconds after which a call that has not ended is hung up and counted as failed."""
TRIED, FAILED, NOT_TRIED = 0, 1, 2


class Visit:
    """A call under way, and what a scenario may do and look at."""

    def __init__(self, running: Running, phone: Caller, call: str, agents: dict[str, AgentPhone]) -> None:
        self.running, self.phone, self.call, self.agents = running, phone, call, agents
        self.wrong: list[str] = []

    @property
    def timeline(self) -> list[dict[str, Any]]:
        return self.running.timeline(self.call)

    @property
    def ended(self) -> bool:
        return any(entry["type"] == "CallEnded" for entry in self.timeline)

    def reaches(self, step: str) -> None:
        """Wait until the flow has entered a step, and listen to it for a moment, as a person would."""
        until(lambda: step in steps(self.timeline) or self.ended, 40, f"step {step}")
        began = time.monotonic()
        until(lambda: self.phone.rtp.loudness(began, began + 5) > 100 or self.ended, 5, f"a prompt of {step}")
        until(lambda: time.monotonic() > began + LISTENS or self.ended, 5)

    def presses(self, keys: str) -> None:
        """Press keys on the caller's telephone."""
        if not self.ended:
            self.phone.rtp.press(keys)

    def talks(self) -> None:
        """Wait for the conversation, and listen at both telephones."""
        until(lambda: any(e["type"] == "Connected" for e in self.timeline) or self.ended, 40, "a conversation")
        agent = next(iter(self.agents.values()))
        self.expect(attempt(lambda: self.phone.rtp.hears(AGENT_TONE), 2), "the caller does not hear the agent")
        self.expect(attempt(lambda: agent.rtp.hears(CALLER_TONE), 2), "the agent does not hear the caller")

    def expect(self, good: object, otherwise: str) -> None:
        """Note what is wrong."""
        if not good:
            self.wrong.append(otherwise)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who calls, who is there (the first is who should talk), what the caller does, and how it should come out."""

    about: str
    number: str
    agents: tuple[str, ...]
    path: str
    outcome: str
    acts: Callable[[Visit], None] = lambda visit: None
    checks: Callable[[Visit], None] = lambda visit: None


def steps(timeline: Sequence[dict[str, Any]]) -> list[str]:
    """The steps that a call entered, in order."""
    return [entry["step"] for entry in timeline if entry["type"] == "StepEntered"]


# ---- what callers do, and what is looked at afterwards ----------------------------------------------------------------------------


def types(keys: str) -> Callable[[Visit], None]:
    """The caller types a reference when asked for it."""

    def act(visit: Visit) -> None:
        visit.reaches("ask_reference")
        visit.presses(keys)
        if visit.agents:
            visit.talks()

    return act


def wants_an_agent(visit: Visit) -> None:
    """The caller presses 1 in the menu."""
    visit.reaches("offer_agent")
    visit.presses("1")
    visit.talks()


def popped_before_it_rang(visit: Visit) -> None:
    """The record was on its way to the screen before the telephone was dialled."""
    order = [entry["type"] for entry in visit.timeline if entry["type"] in ("Pop", "RingAgent")]
    visit.expect(order[:2] == ["Pop", "RingAgent"], f"the record did not pop before the telephone rang: {order}")


def heard_no_prompt(visit: Visit) -> None:
    """Not a single prompt."""
    prompts = [entry["media"] for entry in visit.timeline if entry["type"] == "Play"]
    visit.expect(not prompts, f"prompts were played: {prompts}")
    popped_before_it_rang(visit)


def got_one_mail_that_opens(visit: Visit) -> None:
    """One message of this call, with one link, and the page behind it is the order's."""
    mails = [mail for mail in visit.running.mails() if visit.call in mail["message_id"]]
    visit.expect(len(mails) == 1, f"the mail catcher got {len(mails)} messages of this call, not one")
    for mail in mails[:1]:
        links = re.findall(r"https?://\S+", mail["body"])
        visit.expect(len(links) == 1, f"the mail has {len(links)} links, not one")
        number = mail["subject"].rpartition(" ")[2]
        for link in links[:1]:
            visit.expect(number in page(link), f"the page behind the link does not show order {number}")


def page(link: str) -> str:
    """The text of a page of the CRM; empty when it does not open."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(link, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


_GREETED = "recognise late_or_greet greet premium_check"
_BY_REFERENCE = "recognise ask_reference look_up_reference"
_PREMIUM = "premium_announcement premium_queue"
SCENARIOS = {
    "premium": Scenario(
        "a premium customer is recognised and talks to the agent who fits",
        PREMIUM,
        ("101", "102"),
        f"{_GREETED} {_PREMIUM} end",
        "answered",
        Visit.talks,
        popped_before_it_rang,
    ),
    "reference": Scenario(
        "an unknown number: the caller types the reference, is found, and talks to an agent",
        UNKNOWN,
        ("101",),
        f"{_BY_REFERENCE} late_by_reference premium_check {_PREMIUM} end",
        "answered",
        types(GINA),
        popped_before_it_rang,
    ),
    "mail": Scenario(
        "a customer who is not premium gets an e-mail with a link to the order",
        MAILED,
        (),
        f"{_GREETED} about_tracking make_link mail mail_is_sent end",
        "self_service",
        checks=got_one_mail_that_opens,
    ),
    "late": Scenario(
        "a customer who pays late goes straight to the billing team, without a prompt",
        LATE,
        ("105",),
        "recognise late_or_greet billing end",
        "answered",
        Visit.talks,
        heard_no_prompt,
    ),
    "no-mail": Scenario(
        "a customer without an e-mail address is offered an agent, and takes one",
        NO_MAIL,
        ("103",),
        f"{_GREETED} offer_agent to_general general_queue end",
        "answered",
        wants_an_agent,
    ),
    "nobody": Scenario(
        "a reference that nobody has: the caller is put through to anybody",
        UNKNOWN,
        ("103",),
        f"{_BY_REFERENCE} unknown general_queue end",
        "answered",
        types(NOBODY),
    ),
    "fallback": Scenario(
        "nobody is signed in: the caller is told so and goes on in the dialplan",
        PREMIUM,
        (),
        f"{_GREETED} {_PREMIUM} nobody_free away",
        "released",
    ),
}


# ---- placing them ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    """How a scenario went: what is wrong with it, and the call's timeline."""

    wrong: list[str]
    timeline: list[dict[str, Any]] = field(default_factory=list)


def place(running: Running, scenario: Scenario, show: Callable[[list[dict[str, Any]]], None]) -> Result:
    """Place the call of a scenario; `show` is given the timeline now and then."""
    with ExitStack() as stack:
        agents = {agent: stack.enter_context(running.phone(agent, tone=AGENT_TONE)) for agent in scenario.agents}
        before = {row["id"] for row in running.live()}
        phone = Caller(running.installation.ports.sip, "1000", number=scenario.number, tone=CALLER_TONE)
        stack.enter_context(phone)
        stack.callback(leave, phone)

        def arrived() -> list[str]:
            return [row["id"] for row in running.live() if row["id"] not in before and row["ani"] == scenario.number]

        until(arrived, 10, "the call to arrive")
        visit = Visit(running, phone, arrived()[-1], agents)
        try:
            scenario.acts(visit)
        except AssertionError as error:
            visit.wrong.append(f"gave up: {str(error).splitlines()[0]}")
        until_over(visit, show)
        leave(phone)
        judge(visit, scenario)
        return Result(visit.wrong, visit.timeline)


def until_over(visit: Visit, show: Callable[[list[dict[str, Any]]], None]) -> None:
    """Show the call until it has ended; hang up one that goes on for too long."""

    def over() -> bool:
        timeline = visit.timeline
        show(timeline)
        return any(entry["type"] == "CallEnded" for entry in timeline)

    if not attempt(over, LIMIT):
        visit.wrong.append(f"did not end within {LIMIT:.0f} s")
        leave(visit.phone)
        attempt(over, 10)


def leave(phone: Caller) -> None:
    """Hang up, unless the call is over."""
    if phone.sipp.process.poll() is None and not phone.heard_of("released") and not phone.heard_of("hungup"):
        phone.hang_up()
        attempt(lambda: phone.sipp.process.poll() is not None, 5)


def judge(visit: Visit, scenario: Scenario) -> None:
    """Compare the way and the end of the call with what they should be."""
    timeline = visit.timeline
    way, wanted = steps(timeline), scenario.path.split()
    visit.expect(way == wanted, f"went {' → '.join(way)}\n  should have gone {' → '.join(wanted)}")
    ends = [entry["outcome"] for entry in timeline if entry["type"] == "CallEnded"]
    offered = [entry["agent"] for entry in timeline if entry["type"] == "Offered"]
    visit.expect(offered == list(scenario.agents[:1]), f"was offered to {offered}, should have been to {list(scenario.agents[:1])}")
    visit.expect(ends == [scenario.outcome], f"ended as {ends}, should have ended as {scenario.outcome!r}")
    scenario.checks(visit)


# ---- telling ---------------------------------------------------------------------------------------------------------------------


def tell(out: Console, running: Running, name: str, scenario: Scenario) -> bool:
    """Place one call and print it; whether it went as it should."""
    out.print(f"\n[bold]{name}[/bold]  {scenario.about}")
    began = time.monotonic()
    spinner = Spinner("dots", text="the call is on its way")
    with Live(spinner, console=out, refresh_per_second=8, transient=True) as live:
        try:
            result = place(running, scenario, lambda timeline: live.update(underway(timeline, spinner)))
        except (AssertionError, OSError) as error:
            result = Result([f"could not be placed to its end: {(str(error) or type(error).__name__).splitlines()[0]}"])
    out.print(table(lines(result.timeline)))
    for what in result.wrong:
        out.print(Text(f"✗ {what}", style="red"))
    if not result.wrong:
        out.print(f"[green]✓[/green] took the way it should [dim]({time.monotonic() - began:.1f} s)[/dim]")
    return not result.wrong


def underway(timeline: list[dict[str, Any]], spinner: Spinner) -> RenderableType:
    """A call that has not ended."""
    return Group(table(lines(timeline)), spinner)


def ready(running: Running, state: Path) -> str:
    """Why no call can be placed; empty when one can."""
    if not running.installation.config.exists():
        return f"nothing runs from {state}: run make up first"
    if trouble := running.trouble():
        return f"not everything runs ({trouble}): run make up first"
    busy = [agent["id"] for agent in running.agents() if agent["presence"] != "signed_out"]
    if busy:
        return f"signed in already: {', '.join(busy)}. The calls need the demo's agents for themselves: sign them out first"
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 when a call went wrong, 2 when none could be placed."""
    parser = argparse.ArgumentParser(prog="make call", description="Real calls to the running demo, told line by line.")
    state = Path(os.environ.get("CALLWRIGHT_STATE", "build/up"))
    parser.add_argument("--state", type=Path, default=state, help="the state directory of the installation")
    parser.add_argument("--list", action="store_true", help="the scenarios, and nothing else")
    parser.add_argument("scenario", nargs="*", help="which calls; all of them unless said")
    asked = parser.parse_args(argv)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    if asked.list:
        for name, scenario in SCENARIOS.items():
            out.print(f"[bold]{name:<10}[/bold] {scenario.about}")
        return TRIED
    if unknown := [name for name in asked.scenario if name not in SCENARIOS]:
        parser.error(f"there is no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    installation = Installation(asked.state)
    if not installation.config.exists():
        out.print(f"[red]nothing runs from {asked.state}:[/red] run [bold]make up[/bold] first")
        return NOT_TRIED
    running = Running(installation)
    if hint := ready(running, asked.state):
        out.print(f"[red]no call can be placed:[/red] {hint}")
        return NOT_TRIED
    names = asked.scenario or list(SCENARIOS)
    good = [tell(out, running, name, SCENARIOS[name]) for name in names]
    style = "green" if all(good) else "red"
    out.print(f"\n[{style}]{sum(good)} of {len(good)} calls took the way they should[/{style}]")
    return TRIED if all(good) else FAILED


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends like Ctrl-C, so that agents are signed out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
