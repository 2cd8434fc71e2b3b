"""Every kind of system of record: GraphQL and SOAP over real sockets, SQL in a real database, CSV in a real file."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.actions.credentials import Credentials
from app.actions.files import load_actions
from app.actions.guard import Origin
from app.actions.method import ActionDef
from app.actions.runner import Actions
from app.actions.samples import FakeSystem, check_samples, sample_outputs, sample_parameters
from app.core.commands import StartAction
from app.core.events import ActionFailed, ActionSucceeded
from tests.contract.doors import Doors, Posted, reply

pytest_plugins = ("tests.databases",)
PHONE = "+493012345678"
RESPONSE = {
    "name": {"path": "rows[0].name", "type": "string", "default": ""},
    "count": {"path": "count", "type": "integer"},
    "premium": {"path": "rows[0].premium", "type": "boolean", "default": "false"},
    "value": {"path": "rows[0].value", "type": "number", "default": "0"},
}
SAMPLES = {"one": {"parameters": {"phone": PHONE}, "request": "POST /good", "response": {"status": 500}, "fails": "status"}}


def action(request: dict[str, Any], response: dict[str, Any] = RESPONSE, **parts: Any) -> ActionDef:
    return ActionDef.model_validate(
        {
            "name": "test.good",
            "request": request,
            "parameters": {"phone": {"type": "string"}},
            "response": response,
            "auth": {"scheme": "none", "credentials": "test"},
            "samples": SAMPLES,
            **parts,
        }
    )


@asynccontextmanager
async def acting(definition: ActionDef, **access: Any):
    posted = Posted()
    origins = [Origin(origin=access["base_url"], allow_private=True)] if "base_url" in access else []
    actions = Actions({definition.name: definition}, {"test": Credentials(**access)}, posted, origins)
    try:
        yield actions, posted
    finally:
        await actions.close()


async def ask(definition: ActionDef, budget: float = 2.5, phone: str = PHONE, **access: Any) -> Any:
    async with acting(definition, **access) as (actions, posted):
        actions.carry_out(StartAction("c1", "c1-rq1", "test.good", {"phone": phone}, budget))
        return await posted.event()


@pytest.fixture
async def doors():
    async with Doors() as system:
        yield system


# ---- GraphQL -----------------------------------------------------------------------------------------------------------

GRAPHQL = {
    "kind": "graphql",
    "url": "{{ base_url }}/good",
    "query": "query ByPhone($phone: String!) { contact(phone: $phone) { name } } # not a mutation",
    "variables": {"phone": "{{ phone }}"},
}
NAME = {"name": {"path": "contact.name", "type": "string", "default": ""}}


async def test_a_graphql_query_takes_its_values_as_variables_and_its_attributes_from_data(doors):
    doors.open("good", reply(b'{"data": {"contact": {"name": "Ada"}}}'))
    definition = action(GRAPHQL, NAME)
    assert definition.reads
    event = await ask(definition, phone='+49"} { drop', base_url=doors.origin)
    assert event.values == {"name": "Ada"}
    assert orjson.loads(doors.bodies[0]) == {"query": GRAPHQL["query"], "variables": {"phone": '+49"} { drop'}}


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        (b'{"errors": [{"message": "secret +4930"}], "data": {"contact": {"name": "Ada"}}}', "fault", "GraphQL error"),
        (b'{"errors": [{"message": "x", "extensions": {"code": "BAD_USER_INPUT"}}]}', "fault", "GraphQL error BAD_USER_INPUT"),
        (b'{"errors": "odd"}', "fault", "GraphQL error"),
        (b'{"data": null}', "malformed", "the GraphQL answer has no data"),
        (b"[]", "malformed", "the body is not a GraphQL answer"),
    ],
)
async def test_graphql_errors_with_200_are_failures(doors, body, reason, detail):
    doors.open("good", reply(body))
    event = await ask(action(GRAPHQL, NAME), base_url=doors.origin)
    assert (event.reason, event.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ('{ contact(phone: "{{ phone }}") { name } }', "give it as a variable"),
        ("contact { name }", "expected a GraphQL query or mutation"),
    ],
)
def test_a_graphql_query_that_cannot_be_one_is_told(query, message):
    with pytest.raises(ValueError, match=message):
        action({**GRAPHQL, "query": query}, NAME)


def test_a_graphql_mutation_writes_and_is_not_repeated_without_a_reason():
    mutation = {**GRAPHQL, "query": 'mutation { note(text: "a query") { id } }'}
    assert not action(mutation, NAME).reads
    with pytest.raises(ValueError, match="since a repeated POST may act twice"):
        action(mutation, NAME, run={"retry": 1})


# ---- SOAP --------------------------------------------------------------------------------------------------------------

SOAP = {
    "kind": "soap",
    "url": "{{ base_url }}/good",
    "action": "urn:crm/FindContact",
    "lists": ["order"],
    "envelope": (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        '<FindContact xmlns="urn:crm"><phone>{{ phone }}</phone></FindContact></s:Body></s:Envelope>'
    ),
}
ANSWER = (
    '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:x="http://www.w3.org/2001/XMLSchema-instance">'
    '<s:Header/><s:Body><c:FindContactResponse xmlns:c="urn:crm"><c:contact id="7" x:type="c:Person"><c:name>Ada &amp; Co</c:name>'
    '<c:premium>true</c:premium><c:value>12.5</c:value><c:mail x:nil="true"/><c:order>O-1</c:order></c:contact>'
    "</c:FindContactResponse></s:Body></s:Envelope>"
)
FROM_XML = {
    "id": {"path": 'contact."@id"', "type": "integer"},
    "name": {"path": "contact.name", "type": "string"},
    "premium": {"path": "contact.premium", "type": "boolean"},
    "value": {"path": "contact.value", "type": "number"},
    "mail": {"path": "contact.mail", "type": "string", "default": ""},
    "orders": {"path": "contact.order", "type": "list of string"},
}


def fault(code: str) -> bytes:
    body = f"<s:Fault><faultcode>{code}</faultcode><faultstring>{PHONE} is wrong</faultstring></s:Fault>"
    return f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{body}</s:Body></s:Envelope>'.encode()


async def test_a_soap_operation_gives_typed_attributes(doors):
    doors.open("good", reply(ANSWER.encode()))
    event = await ask(action(SOAP, FROM_XML), phone="<&>'\"", base_url=doors.origin)
    assert event.values == {"id": 7, "name": "Ada & Co", "premium": True, "value": 12.5, "mail": "", "orders": ["O-1"]}
    assert b"<phone>&lt;&amp;&gt;&apos;&quot;</phone>" in doors.bodies[0]
    assert b'SOAPAction: "urn:crm/FindContact"' in doors.heads[0]
    assert b"Content-Type: text/xml; charset=utf-8" in doors.heads[0]


async def test_soap_1_2_has_its_action_in_the_content_type(doors):
    doors.open("good", reply(ANSWER.replace("schemas.xmlsoap.org/soap/envelope/", "www.w3.org/2003/05/soap-envelope").encode()))
    assert isinstance(await ask(action({**SOAP, "version": "1.2"}, FROM_XML), base_url=doors.origin), ActionSucceeded)
    assert b'Content-Type: application/soap+xml; charset=utf-8; action="urn:crm/FindContact"' in doors.heads[0]
    assert b"SOAPAction" not in doors.heads[0]


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + ANSWER.encode()[21:].replace(b"Ada", b"&b;")
OUTSIDE = b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + ANSWER.encode()[21:]


@pytest.mark.parametrize(
    ("body", "status", "reason", "detail"),
    [
        (fault("s:Server"), "500 Oops", "fault", "SOAP fault Server"),
        (fault("s:Client.NotFound"), "200 OK", "fault", "SOAP fault Client.NotFound"),
        (b"", "500 Oops", "malformed", "the body is not XML"),
        (b"", "503 Busy", "status", "HTTP 503"),
        (BOMB, "200 OK", "malformed", "the body declares a document type"),
        (OUTSIDE, "200 OK", "malformed", "the body declares a document type"),
        (ANSWER.encode()[:-9], "200 OK", "malformed", "the body is not XML at line 1"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "200 OK", "malformed", "the body is not XML"),
        (b"<a>" * 100 + b"</a>" * 100, "200 OK", "malformed", "the body is nested more than 32 deep"),
        (b"<html/>", "200 OK", "malformed", "the body is not a SOAP envelope"),
        (b"\x00", "200 OK", "malformed", "the body is not XML"),
    ],
)
async def test_a_fault_and_dangerous_xml_are_failures(doors, body, status, reason, detail):
    doors.open("good", reply(body, status))
    event = await ask(action(SOAP, FROM_XML), base_url=doors.origin)
    assert isinstance(event, ActionFailed)
    assert (event.reason, event.detail[: len(detail)]) == (reason, detail)
    assert PHONE not in event.detail


def test_an_envelope_that_is_no_xml_is_told():
    with pytest.raises(ValueError, match=r"request.envelope: the body is not XML at line 1"):
        action({**SOAP, "envelope": "<a>{{ phone }}"}, FROM_XML)


async def test_a_control_character_never_gets_into_an_envelope(doors):
    assert (await ask(action(SOAP, FROM_XML), phone="a\x0cb\ufffe", base_url=doors.origin)).reason == "bad_request"
    assert doors.asked == []


# ---- SQL ---------------------------------------------------------------------------------------------------------------

SELECT = {"kind": "sql", "statement": "SELECT name, premium, value FROM contacts WHERE phone = :phone", "rows": 2}


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "crm.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE contacts (phone TEXT, name TEXT, premium INTEGER, value NUMERIC)")
        connection.executemany("INSERT INTO contacts VALUES (?, ?, ?, ?)", [(PHONE, "Ada", 1, 12.5), *[("+4930111", "One", 0, 3)] * 5])
    connection.close()
    return f"sqlite:///{path}"


async def test_a_select_gives_typed_attributes_and_binds_its_values(database):
    event = await ask(action(SELECT), database=database)
    assert event.values == {"name": "Ada", "count": 1, "premium": True, "value": 12.5}
    event = await ask(action(SELECT), phone="' OR 1=1 --", database=database)
    assert event.values == {"name": "", "count": 0, "premium": False, "value": 0}


async def test_rows_are_capped(database):
    more = {"more": {"path": "more", "type": "boolean"}, "count": {"path": "count", "type": "integer"}}
    assert (await ask(action(SELECT, more), phone="+4930111", database=database)).values == {"more": True, "count": 2}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM contacts", "expected a SELECT"),
        ("SELECT 1; DROP TABLE contacts", "expected one statement, found several"),
        ("SELECT 1 /* ; */; -- x\nDELETE FROM contacts", "expected one statement, found several"),
        ("WITH x AS (DELETE FROM contacts RETURNING *) SELECT * FROM x", "expected a SELECT that changes nothing, found DELETE"),
        ("SELECT * INTO other FROM contacts", "found INTO"),
        ("SELECT * FROM contacts FOR UPDATE", "found UPDATE"),
        ("PRAGMA writable_schema = 1", "expected a SELECT"),
        ("SELECT 'open", "every quote and comment to be closed"),
        ("SELECT * FROM contacts WHERE phone = :number", "'number' is not a declared parameter; there are: call_id, phone"),
    ],
)
def test_anything_but_one_select_is_refused_when_the_file_is_read(statement, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        action({**SELECT, "statement": statement})


def test_strings_comments_and_functions_may_have_any_word():
    statement = (
        "SELECT replace(name, 'drop; delete', \"set\") AS name FROM contacts -- update; nothing\nWHERE x::text = :phone /* insert */;"
    )
    assert action({**SELECT, "statement": statement}).reads


async def test_the_database_itself_refuses_to_write(database, monkeypatch):
    monkeypatch.setattr("app.actions.select.parameters", lambda statement: {"phone"})
    monkeypatch.setattr("app.actions.sql.parameters", lambda statement: {"phone"})
    event = await ask(action({**SELECT, "statement": "DELETE FROM contacts WHERE phone = :phone RETURNING name"}), database=database)
    assert (event.reason, event.detail) == ("fault", "the database says OperationalError")
    assert (await ask(action(SELECT), database=database)).values["name"] == "Ada"


async def test_a_statement_without_end_costs_the_budget_and_no_more(database):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) AS name FROM n WHERE :phone != ''"
    async with acting(action({**SELECT, "statement": endless}), database=database) as (actions, posted):
        began = time.monotonic()
        actions.carry_out(StartAction("c1", "c1-rq1", "test.good", {"phone": PHONE}, 0.3))
        event = await posted.event()
        assert event.reason == "timeout"
        assert time.monotonic() - began < 1.5


async def test_a_database_that_is_not_there_is_refused_and_nothing_of_it_is_told(tmp_path):
    event = await ask(action(SELECT), database=f"sqlite:///{tmp_path}/absent.db")
    assert (event.reason, event.detail) == ("refused", "the database says OperationalError")
    assert not (tmp_path / "absent.db").exists()
    event = await ask(action(SELECT), database="postgresql://user:s3cret@127.0.0.1:9/crm")
    assert event.reason == "refused"
    assert "s3cret" not in repr(event)


@pytest.mark.parametrize("address", ["mysql://user:s3cret@host/crm", "s3cret", "sqlite://"])
def test_an_address_that_is_no_database_we_know_is_told_without_showing_it(address):
    with pytest.raises(ValueError, match="database") as caught:
        Actions({"test.good": action(SELECT)}, {"test": Credentials(database=address)}, Posted())
    assert "s3cret" not in str(caught.value)


async def test_postgresql_is_asked_in_a_transaction_that_cannot_write(postgres_cluster, monkeypatch):
    if postgres_cluster.missing:
        pytest.skip(postgres_cluster.missing)
    url = postgres_cluster.url("postgres", "postgresql")
    statement = "SELECT CAST(:phone AS text) AS name, true AS premium, 2.5::numeric AS value"
    event = await ask(action({**SELECT, "statement": statement}), database=url)
    assert event.values == {"name": PHONE, "count": 1, "premium": True, "value": 2.5}
    slow = action({**SELECT, "statement": "SELECT pg_sleep(5), CAST(:phone AS text)"})
    began = time.monotonic()
    assert (await ask(slow, 0.3, database=url)).reason == "timeout"
    assert time.monotonic() - began < 2
    monkeypatch.setattr("app.actions.select.parameters", lambda statement: {"phone"})
    monkeypatch.setattr("app.actions.sql.parameters", lambda statement: {"phone"})
    write = action({**SELECT, "statement": "CREATE TABLE written AS SELECT CAST(:phone AS text)"})
    assert (await ask(write, database=url)).reason == "fault"
    there = {"name": {"path": "rows[0].name", "type": "string", "default": ""}}
    look = action({**SELECT, "statement": "SELECT to_regclass('written')::text AS name, CAST(:phone AS text)"}, there)
    assert (await ask(look, database=url)).values == {"name": ""}


# ---- CSV ---------------------------------------------------------------------------------------------------------------

CSV = {"kind": "csv", "file": "data/customers.csv", "match": {"phone": "{{ phone }}"}, "numbers": ["phone"], "region": "DE"}


def in_project(folder: Path, request: dict[str, Any] = CSV, content: str | None = None) -> ActionDef:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "customers.csv").write_text(
        content
        if content is not None
        else "phone,name,premium,value\n030 12345678,Ada,yes,12.5\n+49 30 111,One,no,\n0049 30 111,Two,no,\n",
        encoding="utf-8-sig",
    )
    return action(request, auth={"scheme": "none"}, folder=folder)


async def test_a_row_is_found_however_its_number_is_written(tmp_path):
    definition = in_project(tmp_path)
    for phone in (PHONE, "030 1234 5678", "0049 30 12345678"):
        assert (await ask(definition, phone=phone)).values == {"name": "Ada", "count": 1, "premium": True, "value": 12.5}
    assert (await ask(definition, phone="+4930111")).values["count"] == 2
    assert (await ask(definition, phone="+4930222")).values == {"name": "", "count": 0, "premium": False, "value": 0}


async def test_a_file_that_changes_is_read_again_and_once_for_all(tmp_path, monkeypatch):
    definition = in_project(tmp_path)
    loads = []
    from app.actions.csvfile import CsvTable

    load = CsvTable._load
    monkeypatch.setattr(CsvTable, "_load", lambda self: (loads.append(1), load(self))[1])
    async with acting(definition) as (actions, posted):
        for n in range(10):
            actions.carry_out(StartAction("c1", f"c1-rq{n}", "test.good", {"phone": PHONE}))
        assert [(await posted.event()).values["name"] for _ in range(10)] == ["Ada"] * 10
        assert len(loads) == 1
        new = tmp_path / "data" / "new"
        new.write_text("phone,name,premium,value\n+493012345678,Grace,no,1\n")
        os.replace(new, tmp_path / "data" / "customers.csv")
        actions.carry_out(StartAction("c1", "c1-rq99", "test.good", {"phone": PHONE}))
        assert (await posted.event()).values["name"] == "Grace"
    assert len(loads) == 2


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("number,name\n1,Ada\n", "data/customers.csv: there is no column 'phone'"),
        ("phone,name\n1,Ada,more\n", "data/customers.csv: line 2 has not as many fields as the first"),
        ('phone,name\n1,"Ada\n', "data/customers.csv: unexpected end of data"),
        ("", "data/customers.csv: there is no column 'phone'"),
    ],
)
async def test_a_file_that_is_no_table_is_told(tmp_path, content, detail):
    event = await ask(in_project(tmp_path, content=content))
    assert (event.reason, event.detail) == ("malformed", detail)


async def test_a_file_that_is_gone_is_refused(tmp_path):
    definition = in_project(tmp_path)
    (tmp_path / "data" / "customers.csv").unlink()
    assert (await ask(definition)).reason == "refused"


@pytest.mark.parametrize("file", ["/etc/passwd", "../secret.csv", "data/../../secret.csv", "{{ phone }}.csv", ""])
def test_a_file_outside_of_the_project_is_refused(file):
    with pytest.raises(ValueError, match="inside of it"):
        action({**CSV, "file": file})


def test_a_link_out_of_the_project_is_refused(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "secret.csv").write_text("phone\n1\n")
    (tmp_path / "project" / "link.csv").symlink_to(tmp_path / "secret.csv")
    definition = action({**CSV, "file": "link.csv"}, auth={"scheme": "none"}, folder=tmp_path / "project")
    with pytest.raises(ValueError, match=r"link.csv leads out of the project's folder"):
        Actions({"test.good": definition}, {}, Posted())


# ---- one file with all kinds, and its samples --------------------------------------------------------------------------

FILE = """\
connector: legacy
methods:
  by_soap:
    request:
      kind: soap
      url: "{{ base_url }}/soap"
      action: urn:find
      envelope: |
        <s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">
          <s:Body><Find><phone>{{ phone }}</phone></Find></s:Body>
        </s:Envelope>
    parameters: {phone: {type: string}}
    response: {name: {path: name, type: string}}
    auth: {scheme: basic, credentials: legacy}
    samples:
      known:
        parameters: {phone: "+4930"}
        request: POST /soap
        body: |
          <s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">
            <s:Body>
              <Find><phone>+4930</phone></Find>
            </s:Body>
          </s:Envelope>
        response: {body: '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><R><name>Ada</name></R></s:Body></s:Envelope>'}
        expect: {name: Ada}
      broken:
        parameters: {phone: "+4931"}
        request: POST /soap
        body: '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Find><phone>+4931</phone></Find></s:Body></s:Envelope>'
        response: {status: 500, body: '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault/></s:Body></s:Envelope>'}
        fails: fault
  by_sql:
    request: {kind: sql, statement: "SELECT name FROM contacts WHERE phone = :phone"}
    parameters: {phone: {type: string}}
    response: {name: {path: "rows[0].name", type: string, default: ""}, count: {path: count, type: integer}}
    auth: {scheme: none, credentials: legacy}
    samples:
      known:
        parameters: {phone: "+4930"}
        request: 'sql {"phone":"+4930"}'
        response: {body: '[{"name": "Ada"}]'}
        expect: {name: Ada, count: "1"}
  by_csv:
    request: {kind: csv, file: customers.csv, match: {phone: "{{ phone }}"}}
    parameters: {phone: {type: string}}
    response: {name: {path: "rows[0].name", type: string, default: ""}, count: {path: count, type: integer}}
    auth: {scheme: none}
    samples:
      nobody:
        parameters: {phone: "+4930"}
        request: 'csv customers.csv {"phone":"+4930"}'
        response: {body: "[]"}
        expect: {name: "", count: "0"}
"""


async def test_one_file_with_all_kinds_has_samples_that_hold(tmp_path):
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "legacy.yaml").write_text(FILE)
    definitions = load_actions(tmp_path / "actions")
    assert check_samples(definitions) == []
    assert [definition.reads for definition in definitions.values()] == [False, True, True]
    definition = definitions["legacy.by_soap"]
    posted = Posted()
    async with FakeSystem(definitions) as system:
        actions = Actions({definition.name: definition}, system.credentials, posted, system.origins)
        for title, sample in definition.samples.items():
            actions.carry_out(StartAction("c1", title, definition.name, sample_parameters(definition, title)))
            event = await posted.event()
            assert getattr(event, "reason", "") == sample.fails
            assert sample.fails or event.values == sample_outputs(definition, title)
        await actions.close()


def test_a_kind_that_is_none_is_told_with_its_line(tmp_path):
    (tmp_path / "legacy.yaml").write_text(FILE.replace("kind: soap", "kind: smoke"))
    with pytest.raises(ValueError, match=r"legacy.yaml:4: methods.by_soap.request: expected the kind rest, graphql, soap, sql or csv"):
        load_actions(tmp_path)
    (tmp_path / "legacy.yaml").write_text(FILE.replace("action: urn:find", "acton: urn:find"))
    with pytest.raises(ValueError, match=r"legacy.yaml:7: methods.by_soap.request.acton: no such key is known here"):
        load_actions(tmp_path)


async def test_kinds_side_by_side_do_not_wait_for_each_other(tmp_path, database, doors):
    """E6: of two sources one is dead; the other has answered long before the dead one's budget is over."""
    doors.open("good", Doors.silent)
    dead = action(GRAPHQL, NAME, name="test.dead")
    posted = Posted()
    access = {"test": Credentials(base_url=doors.origin, database=database)}
    actions = Actions({"test.good": action(SELECT), "test.dead": dead}, access, posted, [Origin(origin=doors.origin, allow_private=True)])
    began = time.monotonic()
    for name in ("dead", "good"):
        actions.carry_out(StartAction("c1", name, f"test.{name}", {"phone": PHONE}, 0.5))
    first, second = await posted.event(), await posted.event()
    assert (first.request, first.values["name"]) == ("good", "Ada")
    assert (second.request, second.reason) == ("dead", "timeout")
    assert time.monotonic() - began < 1.5
    await actions.close()
    assert asyncio.all_tasks() - {asyncio.current_task()} == {t for t in asyncio.all_tasks() if "_serve" in repr(t)}
