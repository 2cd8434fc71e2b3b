"""Other systems and a call in progress on a real Asterisk: told by a webhook, they write into its session and steer it."""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import LiveHouse
from tests.e2e.test_hotline_real import heard, spoken
from tests.e2e.variant import project, restarted
from tests.phones import until

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(300)]

SECRET = "whsec_" + base64.b64encode(b"a receiver's own secret 32 bytes").decode()
FLOW = """
flow: parcel
language: en
dnis: ["1700"]
start: welcome
on_error: bye
entries: {found: tell, person: line, leave: bye}
session: {parcel: string, depot: string, vip: bool}
conditions:
  vip: '"vip" in ivr && ivr.vip == true'
prompts:
  welcome: Please hold the line while we look for your parcel.
  still: We are still looking.
  tell: Your parcel is at {{ ivr.depot }}.
  bye: Thank you and goodbye.
steps:
  welcome:
    do: say
    prompt: welcome
    exits: {done: wait}
  wait:
    do: menu
    prompt: still
    choices: {"9": bye}
    retry_no_match: still
    retry_no_input: still
    first_key: 60
    exits: {no_match: bye, no_input: bye}
  tell:
    do: say
    prompt: tell
    exits: {done: important}
  important:
    do: switch
    cases: {vip: line}
    exits: {otherwise: bye, failed: bye}
  line:
    do: queue
    queue: general
    exits: {talked: end, no_agents: bye, too_long: bye, failed: bye}
  bye:
    do: say
    prompt: bye
    exits: {done: end}
  end:
    do: hangup
"""


class Receiver(ThreadingHTTPServer):
    """The other system: it keeps what it is told."""

    daemon_threads = True
    told: list[dict[str, Any]]


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), _Take)
    server.told = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module", autouse=True)
def parcels(running_house: LiveHouse, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = project(tmp_path_factory.mktemp("sessions"), parcel=FLOW)
    address = f"http://127.0.0.1:{receiver.server_address[1]}"
    crm = f"http://127.0.0.1:{running_house.installation.ports.crm}"
    environment = {
        "CALLWRIGHT_PROJECT": str(folder),
        "CALLWRIGHT_WEBHOOKS": json.dumps({"depot": {"url": f"{address}/hook", "secret": SECRET, "events": ["CallArrived", "CallEnded"]}}),
        "CALLWRIGHT_ORIGINS": json.dumps([{"origin": address, "allow_private": True}, {"origin": crm, "allow_private": True}]),
    }
    with restarted(running_house, **environment):
        yield


def test_a_system_that_knows_only_the_call_answers_late_and_steers_it(house: LiveHouse, receiver: Receiver) -> None:
    with house.visit("+4930777001", dial="1700") as visit:
        message = until(lambda: next((each for each in receiver.told if each["call"] == visit.call), None), 5, "the webhook")
        assert (message["type"], message["ani"]) == ("CallArrived", "+4930777001")
        heard(house, visit, "We are still looking.")
        told = house.api(f"/v1/sessions/{visit.call}", {"ivr": {"depot": "Berlin south"}})
        assert (told["version"], told["variables"]["ivr"]) == (1, {"depot": "Berlin south"})
        house.api(f"/v1/sessions/{visit.call}/goto", {"entry": "found"})
        heard(house, visit, "Your parcel is at Berlin south.")
        visit.phone.wait_for("released")
        assert house.over(visit.call)["outcome"] == "self_service"
        assert house.steps(visit.call) == ["welcome", "wait", "tell", "important", "bye", "end"]
    until(lambda: [each["type"] for each in receiver.told if each["call"] == visit.call] == ["CallArrived", "CallEnded"], 5, "the end")


def test_what_was_written_outlives_our_own_death_and_decides_the_way(house: LiveHouse) -> None:
    with house.agent_phone("103", ring=0.2, talk=0.5), house.visit("+4930777002", dial="1700") as visit:
        house.reaches(visit, "wait")
        house.api(f"/v1/sessions/{visit.call}", {"ivr.vip": True, "ivr.depot": "Hamburg"})
        house.kill()
        house.start()
        until(lambda: visit.call in {row["id"] for row in house.calls()}, 10, "the call to be taken over")
        house.api(f"/v1/sessions/{visit.call}/goto", {"entry": "found"})
        assert house.over(visit.call, 30)["outcome"] == "answered"
    assert "Your parcel is at Hamburg." in spoken(house, visit.call)


def test_nothing_that_is_written_is_ever_carried_out(house: LiveHouse, tmp_path: Path) -> None:
    mark = tmp_path / "carried-out"
    evil = f"${{SHELL(touch {mark})}} $[1+1] ${{FILE(/etc/passwd)}}, x\nExec: System"
    with house.visit("+4930777003", dial="1700") as visit:
        house.reaches(visit, "wait")
        channel = house.call(visit.call)["channel"]
        for names, status in (
            ({"ivr.FILE(/tmp/x)": "y"}, 422),
            ({"ivr.SHELL(id)": "y"}, 422),
            ({"CHANNEL(language)": "de"}, 422),
            ({"ivr.__X": "y"}, 422),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                house.api(f"/v1/sessions/{visit.call}", names)
            assert refused.value.code == status
        house.api(f"/v1/sessions/{visit.call}", {"ivr.depot": evil})
        house.api(f"/v1/sessions/{visit.call}/goto", {"entry": "found"})
        house.reaches(visit, "bye", 40)
        for name in ("ivr.depot", "depot", "DEPOT"):
            with pytest.raises(urllib.error.HTTPError) as unknown:
                house.ari(f"channels/{channel}/variable?variable={name}")
            assert unknown.value.code == 404, "no name from outside becomes a variable of Asterisk"
    assert any(text.startswith("Your parcel is at ${SHELL(") for text in spoken(house, visit.call))
    assert not mark.exists()
