"""The language on real calls: several languages, values in words, parallel questions, automations, a shared subflow, confirm, menus by
caller, opening hours, and the key that reaches a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.e2e.hearing import has_heard
from tests.e2e.house import PREMIUM, LiveHouse, Visit
from tests.e2e.variant import project, restarted
from tests.phones import until

pytestmark = pytest.mark.pbx

GERMAN = "+4930555000206"
LIKE = 0.7
FLOW = """
flow: spoken
dnis: ["1801"]
start: open
on_error: sorry
languages: [en, de, es]
reach_a_person: {key: "0", step: person}
calendars:
  always: {zone: Europe/Berlin, open: {mon-sun: "00:00-24:00"}}
conditions:
  has_order: record.found && record.order_number != ''
  nobody: has(contact.first_name) && contact.first_name == 'Nobody'
automations:
  - {on: arrival, action: crm.contact_by_phone, with: {phone: "{{ call.ani }}"}, into: contact}
  - {on: entered, at: greet, action: crm.contact_by_reference, with: {digits: "2722541"}, into: beside}
  - {on: left, at: greet, action: crm.contact_by_phone, with: {phone: "{{ record.phone }}"}}
prompts:
  welcome: {en: Welcome to the hotline of many languages. Please stay on the line., de: Willkommen., es: Bienvenido.}
  order:
    en: ["Your last order has the number", "number:{{ record.order_number }}"]
    de: ["Guten Tag. Ihre letzte Bestellung hat die Nummer", "number:{{ record.order_number }}"]
    es: ["Su último pedido tiene el número", "number:{{ record.order_number }}"]
  right: {en: "If this is right, press 1, else 2.", de: "Wenn das richtig ist, drücken Sie die Eins, sonst die Zwei.", es: Pulse uno.}
  again: {en: Once more., de: Noch einmal., es: Otra vez.}
  about_order: {en: "For your order, press 1.", de: "Zu Ihrer letzten Bestellung drücken Sie bitte die Eins.", es: Pulse uno.}
  about_nobody: {en: "For nobody, press 2.", de: "Das hier hört niemand.", es: "Para nadie."}
  person: {en: You will be connected to a person in a moment., de: Wir verbinden Sie sofort mit einem Menschen., es: Le conectamos.}
  sorry: {en: We are sorry., de: Es tut uns leid., es: Lo sentimos.}
steps:
  open: {do: hours, calendar: always, exits: {open: welcome, closed: sorry, holiday: sorry}}
  welcome: {do: say, prompt: welcome, exits: {done: known}}
  known: {do: wait_for, variable: contact.answered, max_wait: 8, exits: {set: greet, too_long: sorry}}
  greet: {do: subflow, run: greet_in_own_language, exits: {done: order}}
  order: {do: say, prompt: order, exits: {done: right}}
  right:
    do: confirm
    prompt: right
    retry_no_match: again
    retry_no_input: again
    first_key: 20
    exits: {yes: end, no: choose, no_match: sorry, no_input: sorry}
  choose:
    do: menu
    choices:
      "1": {to: end, when: has_order, prompt: about_order}
      "2": {to: sorry, when: nobody, prompt: about_nobody}
    retry_no_match: again
    retry_no_input: again
    first_key: 20
    exits: {no_match: sorry, no_input: sorry, failed: sorry, none: sorry}
  person: {do: say, prompt: person, exits: {done: line}}
  line: {do: queue, queue: general, exits: {talked: end, no_agents: sorry, too_long: sorry, failed: sorry}}
  sorry: {do: say, prompt: sorry, exits: {done: end}}
  end: {do: hangup}
"""


SUBFLOW = """
start: speak
exits: [done]
steps:
  speak: {do: language, to: "{{ contact.language }}", exits: {done: ask, unknown: ask}}
  ask:
    do: gather
    ask:
      record: {action: crm.contact_by_phone, with: {phone: "{{ call.ani }}"}}
      other: {action: crm.contact_by_reference, with: {digits: "1111111"}}
    exits: {done: exit.done, some: exit.done, failed: exit.done}
"""


@pytest.fixture(scope="module", autouse=True)
def environment(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the application runs with here."""
    folder = project(tmp_path_factory.mktemp("language"), spoken=FLOW)
    (folder / "subflows").mkdir()
    (folder / "subflows" / "greet_in_own_language.yaml").write_text(SUBFLOW)
    environment = {"CALLWRIGHT_PROJECT": str(folder)}
    with restarted(running_house, **environment):
        yield environment


def dies_and_comes_back(house: LiveHouse, environment: dict[str, str]) -> None:
    part = next(part for part in house.installation.parts() if part.name == "application")
    house.kill()
    house.installation.start(replace(part, env=environment), house.say.append)


def heard(house: LiveHouse, visit: Visit, text: str, language: str, within: float = 15.0) -> None:
    """The caller has heard this text in this language, by correlation with its recording."""
    sounds = house.installation.pbx(house.say.append).sounds_dir
    until(lambda: has_heard(visit.phone.rtp, text, sounds, language) > LIKE, within, f"to hear {text!r}; steps {house.steps(visit.call)}")


def test_a_caller_is_served_in_his_own_language_and_reaches_a_person_from_a_menu_after_a_crash(
    house: LiveHouse, environment: dict[str, str]
) -> None:
    with house.agent_phone("103", ring=0.2, talk=0.5), house.visit(GERMAN, "1801") as visit:
        heard(house, visit, "Welcome to the hotline of many languages. Please stay on the line.", "en")
        heard(house, visit, "Guten Tag. Ihre letzte Bestellung hat die Nummer", "de")
        heard(house, visit, "einhundertviertausendfünfhundertneunzig", "de")
        house.reaches(visit, "right")
        visit.phone.rtp.press("2")
        heard(house, visit, "Zu Ihrer letzten Bestellung drücken Sie bitte die Eins.", "de")
        dies_and_comes_back(house, environment)
        visit.phone.rtp.press("0")
        heard(house, visit, "Wir verbinden Sie sofort mit einem Menschen.", "de")
        assert house.over(visit.call, 30)["outcome"] == "answered"
        inner = ["greet", "greet.speak", "greet.ask"]
        assert house.steps(visit.call) == ["open", "welcome", "known", *inner, "order", "right", "choose", "person", "line", "end"]
        played = [item for entry in house.timeline(visit.call) if entry["type"] == "Play" for item in entry["media"]]
        assert "text:Das hier hört niemand." not in played
        timeline = house.timeline(visit.call)
        asked = [(entry["at"], entry["action"].removeprefix("crm.contact_by_")) for entry in timeline if entry["type"] == "StartAction"]
        entered = {entry["step"]: entry["at"] for entry in timeline if entry["type"] == "StepEntered"}
        assert [by for _, by in asked] == ["phone", "reference", "phone", "reference", "phone"]
        assert asked[1][0] == entered["greet"], "what is asked beside a step leaves as it is entered"
        assert asked[2][0] == asked[3][0], "both questions left at once"
        assert asked[4][0] == entered["order"], "the subflow was left"


def test_the_key_cuts_the_welcome_short(house: LiveHouse) -> None:
    with house.agent_phone("103", ring=0.2, talk=0.5), house.visit(PREMIUM, "1801") as visit:
        visit.phone.wait_for("answered")
        until(lambda: visit.phone.rtp.to and visit.phone.rtp.hears_anything(), 10, "the welcome")
        visit.phone.rtp.press("0")
        house.reaches(visit, "person", 5)
        heard(house, visit, "You will be connected to a person in a moment.", "en")
        assert house.over(visit.call, 30)["outcome"] == "answered"
        assert house.steps(visit.call) == ["open", "welcome", "person", "line", "end"]
