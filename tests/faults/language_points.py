"""A1 for the rest of the language: the application dies in a confirmation, in a wait for another system, between the answers of several,
in steps that never wait, within a subflow, over a text message, an automation that is waited for, and a conversation with a bot.
"""

from __future__ import annotations

import json
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from app.installation import fetch
from tests.e2e.bot_process import BotProcess
from tests.e2e.house import PREMIUM, UNKNOWN, LiveHouse
from tests.e2e.variant import project
from tests.faults.case import CALLER_TONE, told
from tests.faults.kill_points import REFERENCE, Play, Scene, ask_and_die, cases
from tests.phones import free_port, until

CONFIRM = """
flow: sure
dnis: ["1131"]
start: right
on_error: bye
prompts: {right: ["If this is right, press 1, else 2."], again: [Once more.], thanks: [Thank you.]}
steps:
  right:
    {do: confirm, prompt: right, retry_no_match: again, retry_no_input: again, first_key: 20,
     exits: {yes: thanks, no: bye, no_match: bye, no_input: bye}}
  thanks: {do: say, prompt: thanks, exits: {done: bye}}
  bye: {do: hangup}
"""
WAIT_FOR = """
flow: parcel
dnis: ["1132"]
start: hold
on_error: bye
prompts: {still: [We are looking for your parcel.], where: ["Your parcel is at {{ ivr.depot }}."]}
steps:
  hold: {do: wait_for, variable: ivr.depot, mask: still, max_wait: 120, exits: {set: where, too_long: bye}}
  where: {do: say, prompt: where, exits: {done: bye}}
  bye: {do: hangup}
"""
GATHER = """
flow: several
dnis: ["1133"]
start: ask
on_error: bye
prompts: {both: ["By number {{ caller.first_name }}, by reference {{ other.found }}."]}
steps:
  ask:
    do: gather
    ask:
      caller: {action: crm.contact_by_phone, with: {phone: "{{ call.ani }}"}}
      other: {action: crm.contact_by_reference, with: {digits: "REFERENCE"}}
    budget: 8
    exits: {done: both, some: bye, failed: bye}
  both: {do: say, prompt: both, exits: {done: bye}}
  bye: {do: hangup}
""".replace("REFERENCE", REFERENCE)
INNER = """
flow: inner
dnis: ["1134"]
start: hello
on_error: bye
languages: [en, de]
calendars: {always: {zone: Europe/Berlin, open: {mon-sun: "00:00-24:00"}}}
conditions: {marked: 'vars.mark == "yes"'}
prompts:
  hello: {en: Welcome to our company., de: Willkommen.}
  type: {en: Please type the number., de: "Bitte geben Sie Ihre Nummer ein und beenden Sie die Eingabe mit der Raute."}
  again: {en: Once more., de: "Bitte versuchen Sie es noch einmal."}
  thanks: {en: Thank you., de: Vielen Dank.}
subflows:
  number:
    start: type
    exits: [typed, none]
    steps:
      type:
        {do: collect, into: number, length: 7, prompt: type, retry_no_match: again, retry_no_input: again, first_key: 20, between_keys: 20,
         total: 60, exits: {match: exit.typed, no_match: exit.none, no_input: exit.none}}
steps:
  hello: {do: say, prompt: hello, exits: {done: tongue}}
  tongue: {do: language, to: de, exits: {done: open, unknown: bye}}
  open: {do: hours, calendar: always, exits: {open: mark, closed: bye, holiday: bye}}
  mark: {do: set, values: {mark: "yes"}, exits: {done: choose}}
  choose: {do: switch, cases: {marked: ask}, exits: {otherwise: bye, failed: bye}}
  ask: {do: subflow, run: number, exits: {typed: thanks, none: bye}}
  thanks: {do: say, prompt: thanks, exits: {done: bye}}
  bye: {do: hangup}
"""
SMS = """
flow: texting
dnis: ["1135"]
start: text
on_error: bye
prompts: {thanks: [We have sent you a message.]}
steps:
  text: {do: sms, to: "+4930555000777", text: "You called from {{ call.ani }}.", exits: {sent: thanks, failed: bye}}
  thanks: {do: say, prompt: thanks, exits: {done: bye}}
  bye: {do: hangup}
"""
AUTOMATION = """
flow: beside
dnis: ["1136"]
start: hello
on_error: bye
automations: [{on: arrival, action: crm.contact_by_phone, with: {phone: "{{ call.ani }}"}, into: known, budget: 8}]
prompts: {hello: [Welcome to our company.], name: ["Hello {{ known.first_name }}."]}
steps:
  hello: {do: say, prompt: hello, exits: {done: answer}}
  answer: {do: wait_for, variable: known.answered, max_wait: 20, exits: {set: name, too_long: bye}}
  name: {do: say, prompt: name, exits: {done: bye}}
  bye: {do: hangup}
"""
BOT = """
flow: talk
dnis: ["1137"]
start: talk
on_error: bye
prompts: {thanks: [Thank you for calling us today.], sorry: [The bot cannot be reached.]}
steps:
  talk: {do: bot, bot: echo, max_seconds: 120, exits: {done: thanks, failed: sorry, hung: sorry}}
  thanks: {do: say, prompt: thanks, exits: {done: bye}}
  sorry: {do: say, prompt: sorry, exits: {done: bye}}
  bye: {do: hangup}
"""
FLOWS = {"sure": CONFIRM, "parcel": WAIT_FOR, "several": GATHER, "inner": INNER, "texting": SMS, "beside": AUTOMATION, "talk": BOT}


def surroundings(house: LiveHouse, stack: ExitStack) -> dict[str, str]:
    """The demo's project with the flows of these cases, and the echo bot."""
    bot = BotProcess("echo", free_port(socket.SOCK_STREAM))
    stack.callback(bot.stop)
    bot.start()
    origins = [{"origin": f"http://127.0.0.1:{port}", "allow_private": True} for port in (bot.port, house.installation.ports.crm)]
    return {
        "CALLWRIGHT_PROJECT": str(project(Path(tempfile.mkdtemp(prefix="language-")), **FLOWS)),
        "CALLWRIGHT_BOTS": json.dumps({"echo": {"url": f"ws://127.0.0.1:{bot.port}/"}}),
        "CALLWRIGHT_ORIGINS": json.dumps(origins),
    }


def leaves(scene: Scene, *says: str, **exits: str) -> None:
    """The call goes on to its end, by these exits, and the caller was told this, in words that come out of what the steps found."""
    scene.ends("self_service", 60)
    entries = scene.house.timeline(scene.call)
    left = {entry["step"]: entry["exit"] for entry in entries if entry["type"] == "StepLeft"}
    assert {step: left.get(step) for step in exits} == exits, told(scene.house, scene.call)
    media = [item for entry in entries if entry["type"] == "Play" for item in entry["media"]]
    for text in says:
        assert f"text:{text}" in media


def confirming(scene: Scene) -> None:
    scene.caller(UNKNOWN, "1131")
    scene.press_into_the_crash("1", "right")
    scene.crash()
    scene.press("1", "right")
    leaves(scene, "Thank you.", right="yes")


def held(scene: Scene) -> None:
    """The caller waits for another system, which writes once the next process is there."""
    scene.caller(UNKNOWN, "1132")
    scene.crash()
    scene.is_heard()
    written(scene)
    leaves(scene, "Your parcel is at Berlin.", hold="set")


def written(scene: Scene) -> Any:
    return scene.house.api(f"/v1/sessions/{scene.call}", {"ivr.depot": "Berlin"})


def told_of_nothing(scene: Scene, *, kept: bool) -> None:
    """What the other system was not told to be done is done again; where it was `kept` all the same, that is no harm."""
    scene.caller(UNKNOWN, "1132")
    until(lambda: scene._is_at("hold"), 20, "the wait")
    scene.is_heard()
    ask_and_die(lambda: written(scene))
    scene.crash()
    if not kept:
        scene.is_heard()
        assert scene.house.call(scene.call)["step"] == "hold", "what was never acknowledged never happened"
        written(scene)
    leaves(scene, "Your parcel is at Berlin.", hold="set")


def asking_several(scene: Scene) -> None:
    scene.caller(PREMIUM, "1133")
    scene.crash()
    leaves(scene, "By number Anna, by reference True.", ask="done")


WITHOUT_WAITING = {"hello": "done", "tongue": "done", "open": "open", "mark": "done", "choose": "case marked"}


def typing_within_a_subflow(scene: Scene, *, crash_at: str = "") -> None:
    """The language, the hours, what was set and chosen are there on the other side; seven keys are taken by the subflow's own step."""
    scene.caller(UNKNOWN, "1134")
    if crash_at:
        scene.press_into_the_crash(REFERENCE[:3], crash_at)
    scene.crash()
    until(lambda: scene._is_at("ask.type"), 20, "the subflow")
    if not crash_at:
        scene.is_heard()
    scene.press(REFERENCE, "ask.type")
    leaves(scene, "Vielen Dank.", **WITHOUT_WAITING, **{"ask.type": "match"})


def texting(scene: Scene) -> None:
    before = {text["key"] for text in texts(scene.house)}
    scene.caller(UNKNOWN, "1135")
    scene.crash()
    leaves(scene, "We have sent you a message.", text="sent")
    new = [text for text in texts(scene.house) if text["key"] not in before]
    assert [text["text"] for text in new] == [f"You called from {UNKNOWN}."], "one message, by its key"


def texts(house: LiveHouse) -> list[dict[str, str]]:
    return list(fetch(f"http://127.0.0.1:{house.installation.ports.mail}/sms")["messages"])


def waiting_for_an_automation(scene: Scene) -> None:
    scene.caller(PREMIUM, "1136")
    scene.crash()
    leaves(scene, "Hello Anna.", answer="set")


def with_a_bot(scene: Scene) -> None:
    """The caller hears music until the bot is there again."""
    scene.caller(UNKNOWN, "1137")
    scene.crash()
    hangs_up_on_the_bot(scene)


def hangs_up_on_the_bot(scene: Scene) -> None:
    hears_itself(scene)
    scene.phone.rtp.press("2")
    leaves(scene, talk="done")


def hears_itself(scene: Scene) -> None:
    until(lambda: scene.phone.rtp.hears(CALLER_TONE), 20, lambda: f"the echo: {told(scene.house, scene.call)}")


def the_bot_is_done(scene: Scene, *, kept: bool) -> None:
    """The bot gives the call back as the application dies: it has it again, unless that is written down."""
    scene.caller(UNKNOWN, "1137")
    hears_itself(scene)
    scene.phone.rtp.press("2")
    scene.crash()
    if kept:
        leaves(scene, talk="done")
    else:
        hangs_up_on_the_bot(scene)


def _kept(act: Any) -> tuple[Play, Play]:
    """The scene where what passes is not written down, and where it is."""
    return (lambda scene: act(scene, kept=False)), (lambda scene: act(scene, kept=True))


unwritten, written_down = _kept(told_of_nothing)
not_done, done = _kept(the_bot_is_done)


def typed(scene: Scene) -> None:
    typing_within_a_subflow(scene, crash_at="ask.type")


SCENES: dict[str, dict[str, tuple[Play, str]]] = {
    "confirm": {
        "before_handled": (confirming, "DigitPressed"),
        "before_persist": (confirming, "DigitPressed"),
        "after_persist": (confirming, "DigitPressed"),
        "after_command": (confirming, "StopPlay"),
    },
    "wait_for": {
        "before_handled": (unwritten, "SessionWritten"),
        "before_persist": (unwritten, "SessionWritten"),
        "after_persist": (written_down, "SessionWritten"),
        "after_command": (held, "Play"),
    },
    "gather": {
        "before_handled": (asking_several, "ActionSucceeded:2"),
        "before_persist": (asking_several, "StartAction:2"),
        "after_persist": (asking_several, "StartAction:2"),
        "after_command": (asking_several, "StartAction:2"),
    },
    "language, hours, set, switch": {
        "before_handled": (typing_within_a_subflow, "PlaybackEnded"),
        "before_persist": (typing_within_a_subflow, "StepLeft:3"),
        "after_persist": (typing_within_a_subflow, "StepLeft:5"),
        "after_command": (typing_within_a_subflow, "Play:2"),
    },
    "subflow": {
        "before_handled": (typed, "DigitPressed:3"),
        "before_persist": (typed, "DigitPressed:3"),
        "after_persist": (typed, "DigitPressed:3"),
        "after_command": (typed, "StopPlay"),
    },
    "sms": {
        "before_handled": (texting, "SmsSent"),
        "before_persist": (texting, "SendSms"),
        "after_persist": (texting, "SendSms"),
        "after_command": (texting, "SendSms"),
    },
    "automation": {
        "before_handled": (waiting_for_an_automation, "ActionSucceeded"),
        "before_persist": (waiting_for_an_automation, "StartAction"),
        "after_persist": (waiting_for_an_automation, "StartAction"),
        "after_command": (waiting_for_an_automation, "StartAction"),
    },
    "bot": {
        "before_handled": (with_a_bot, "BotBegan"),
        "before_persist": (with_a_bot, "StartBot"),
        "after_persist": (with_a_bot, "StartBot"),
        "after_command": (with_a_bot, "StartBot"),
    },
    "bot's end": {
        "before_handled": (not_done, "BotEnded"),
        "before_persist": (not_done, "BotEnded"),
        "after_persist": (done, "BotEnded"),
        "after_command": (done, "Play"),
    },
}
CASES = cases(SCENES, surroundings)
