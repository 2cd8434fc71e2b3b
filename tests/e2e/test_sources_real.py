"""Systems of record of every kind on real calls: SQL, CSV, GraphQL and SOAP, asked one by one and two at once, well and in trouble."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import LiveHouse
from tests.e2e.test_hotline_real import heard
from tests.e2e.variant import project, restarted
from tests.phones import until

pytestmark = pytest.mark.pbx

ADA, BEN = "+4930555000301", "+4930555000302"
"""Of Ben the shop answers with errors, and the register of contracts not at all."""
BUDGET = 1.0
ACTIONS = """
connector: office
methods:
  customer:
    request: {kind: sql, statement: "SELECT name FROM customers WHERE phone = :phone"}
    parameters: {phone: {type: string}}
    response: {name: {path: "rows[0].name", type: string, default: ""}, count: {path: count, type: integer}}
    auth: {scheme: none, credentials: customers}
    samples:
      ada:
        parameters: {phone: "+4930"}
        request: 'sql {"phone":"+4930"}'
        response: {body: '[{"name": "Ada"}]'}
        expect: {name: Ada, count: "1"}
  tariff:
    request: {kind: csv, file: tariffs.csv, match: {phone: "{{ phone }}"}, numbers: [phone], region: DE}
    parameters: {phone: {type: string}}
    response: {name: {path: "rows[0].tariff", type: string, default: ""}, count: {path: count, type: integer}}
    auth: {scheme: none}
    samples:
      nobody:
        parameters: {phone: "+4930"}
        request: 'csv tariffs.csv {"phone":"+4930"}'
        response: {body: "[]"}
        expect: {name: "", count: "0"}
  parcel:
    request:
      kind: graphql
      url: "{{ base_url }}/shop"
      query: "query Parcel($phone: String!) { parcel(phone: $phone) { place } }"
      variables: {phone: "{{ phone }}"}
    parameters: {phone: {type: string}}
    response: {place: {path: parcel.place, type: string}}
    auth: {scheme: bearer, credentials: services}
    samples:
      berlin:
        parameters: {phone: "+4930"}
        request: POST /shop
        body: '{"query": "query Parcel($phone: String!) { parcel(phone: $phone) { place } }", "variables": {"phone": "+4930"}}'
        response: {body: '{"data": {"parcel": {"place": "Berlin"}}}'}
        expect: {place: Berlin}
  contract:
    request:
      kind: soap
      url: "{{ base_url }}/register"
      action: urn:find
      envelope: '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Find>{{ phone }}</Find></s:Body></s:Envelope>'
    parameters: {phone: {type: string}}
    response: {until: {path: until, type: string}}
    auth: {scheme: bearer, credentials: services}
    samples:
      may:
        parameters: {phone: "+4930"}
        request: POST /register
        body: '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Find>+4930</Find></s:Body></s:Envelope>'
        response:
          body: '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><R><until>May</until></R></s:Body></s:Envelope>'
        expect: {until: May}
"""
FLOW = f"""
flow: sources
dnis: ["1130"]
start: recognise
on_error: away
conditions:
  no_contract: tariff.answered && tariff.found && !contract.answered
prompts:
  hello: "Good morning {{{{ customer.name }}}}."
  parcel: "Your parcel is in {{{{ parcel.place }}}}."
  no_shop: The shop does not answer.
  terms: "Your tariff is {{{{ tariff.name }}}}, until {{{{ contract.until }}}}."
  tariff: "Your tariff is {{{{ tariff.name }}}}, and the contract is unknown."
steps:
  recognise:
    do: lookup
    into: customer
    action: office.customer
    with: {{phone: "{{{{ call.ani }}}}"}}
    exits: {{found: hello, none: away, many: away, failed: away}}
  hello: {{do: say, prompt: hello, exits: {{done: where}}}}
  where:
    do: action
    into: parcel
    action: office.parcel
    with: {{phone: "{{{{ call.ani }}}}"}}
    exits: {{done: parcel, failed: no_shop}}
  parcel: {{do: say, prompt: parcel, exits: {{done: both}}}}
  no_shop: {{do: say, prompt: no_shop, exits: {{done: both}}}}
  both: {{do: subflow, run: both_at_once, exits: {{all: terms, partly: what, nothing: away}}}}
  terms: {{do: say, prompt: terms, exits: {{done: bye}}}}
  what: {{do: switch, cases: {{no_contract: tariff}}, exits: {{otherwise: away, failed: away}}}}
  tariff: {{do: say, prompt: tariff, exits: {{done: bye}}}}
  bye: {{do: hangup}}
  away: {{do: release}}
subflows:
  both_at_once:
    start: ask
    exits: [all, partly, nothing]
    steps:
      ask:
        do: gather
        ask:
          tariff: {{action: office.tariff, with: {{phone: "{{{{ call.ani }}}}"}}}}
          contract: {{action: office.contract, with: {{phone: "{{{{ call.ani }}}}"}}}}
        budget: {BUDGET}
        exits: {{done: exit.all, some: exit.partly, failed: exit.nothing}}
"""
CONTRACT = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><R><until>September</until></R></s:Body></s:Envelope>'


class Services(ThreadingHTTPServer):
    """The shop, which speaks GraphQL, and the register of contracts, which speaks SOAP."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.over = threading.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        for_ben = BEN in asked
        if self.path == "/shop":
            good: dict[str, Any] = {"data": {"parcel": {"place": "Hamburg"}}}
            self._say("application/json", json.dumps({"errors": [{"message": "no"}], "data": None} if for_ben else good))
        elif for_ben:
            assert isinstance(self.server, Services)
            self.server.over.wait()
        else:
            self._say("text/xml", CONTRACT)

    def _say(self, kind: str, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    server = Services()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def customers(file: Path) -> str:
    """A database with both callers in it; its address."""
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE customers (phone TEXT, name TEXT)")
        database.executemany("INSERT INTO customers VALUES (?, ?)", [(ADA, "Ada Lovelace"), (BEN, "Benjamin Carter")])
    database.close()
    return f"sqlite:///{file}"


@pytest.fixture(scope="module", autouse=True)
def sources(running_house: LiveHouse, services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = project(tmp_path_factory.mktemp("sources"), sources=FLOW)
    (folder / "actions" / "office.yaml").write_text(ACTIONS)
    (folder / "tariffs.csv").write_text(f"phone,tariff\n{ADA.replace('+49', '0')},summer\n{BEN},winter\n")
    crm = f"http://127.0.0.1:{running_house.installation.ports.crm}"
    environment = {
        "CALLWRIGHT_PROJECT": str(folder),
        "CALLWRIGHT_SYSTEMS__CUSTOMERS__DATABASE": customers(folder.parent / "customers.db"),
        "CALLWRIGHT_SYSTEMS__SERVICES__BASE_URL": services.origin,
        "CALLWRIGHT_SYSTEMS__SERVICES__TOKEN": "a token of the services",
        "CALLWRIGHT_ORIGINS": json.dumps([{"origin": origin, "allow_private": True} for origin in (services.origin, crm)]),
    }
    with restarted(running_house, **environment):
        yield


def exits(house: LiveHouse, call: str) -> dict[str, str]:
    return {entry["step"]: entry["exit"] for entry in house.timeline(call) if entry["type"] == "StepLeft"}


def test_what_sql_csv_graphql_and_soap_know_is_heard_and_two_of_them_are_asked_at_once(house: LiveHouse) -> None:
    with house.visit(ADA, "1130") as visit:
        heard(house, visit, "Good morning Ada Lovelace.")
        heard(house, visit, "Your parcel is in Hamburg.")
        heard(house, visit, "Your tariff is summer, until September.")
        assert house.over(visit.call)["outcome"] == "self_service"
    left = exits(house, visit.call)
    assert (left["recognise"], left["where"], left["both.ask"]) == ("found", "done", "done")
    asked = [entry["at"] for entry in house.timeline(visit.call) if entry["type"] == "StartAction"]
    assert asked[-1] == asked[-2], "both questions left at once"


def test_errors_with_200_are_a_failure_and_of_two_the_one_that_lives_is_told(house: LiveHouse) -> None:
    with house.visit(BEN, "1130") as visit:
        heard(house, visit, "Good morning Benjamin Carter.")
        heard(house, visit, "The shop does not answer.")
        house.reaches(visit, "both.ask")
        until(lambda: visit.phone.rtp.hears_anything(0.2), BUDGET, "music while the dead one is waited for")
        heard(house, visit, "Your tariff is winter, and the contract is unknown.")
        assert house.over(visit.call)["outcome"] == "self_service"
    left = exits(house, visit.call)
    assert (left["where"], left["both.ask"], left["what"]) == ("failed", "some", "case no_contract")
    failed = [(entry["reason"], entry["detail"]) for entry in house.timeline(visit.call) if entry["type"] == "ActionFailed"]
    assert failed == [("fault", "GraphQL error"), ("timeout", failed[1][1])]
    waited = [entry["at"] for entry in house.timeline(visit.call) if entry.get("step") == "both.ask"]
    assert BUDGET - 0.1 <= waited[1] - waited[0] < BUDGET + 1.0
