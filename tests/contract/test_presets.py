"""The presets against their vendors' fakes, through the runner of production: one set of tests for all, since they promise the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import phonenumbers
import pytest

from app.actions import preset
from app.actions.credentials import Credentials
from app.actions.files import ActionFileError, load_actions
from app.actions.filters import NotFit, forms, guid, national, odata, soql, term, whole
from app.actions.guard import Origin
from app.actions.method import ActionDef
from app.actions.runner import Actions
from app.actions.samples import FakeSystem, check_samples, sample_outputs, sample_parameters
from app.actions.values import from_text
from app.core.commands import StartAction
from app.core.events import ActionFailed, ActionSucceeded
from tests.contract.doors import Posted
from tests.contract.vendors.dynamics import Dynamics
from tests.contract.vendors.hubspot import HubSpot
from tests.contract.vendors.salesforce import Salesforce
from tests.contract.vendors.vendor import Person, Vendor
from tests.contract.vendors.zendesk import Zendesk

VENDORS: dict[str, type[Vendor]] = {"dynamics": Dynamics, "hubspot": HubSpot, "salesforce": Salesforce, "zendesk": Zendesk}
METHODS = {"find_by_number", "find_by_reference", "read", "open_record", "create_activity", "update", "create_case"}
CALL = "5d1c6a0f9b0e4c7d8a2b3c4d5e6f7a8b"
ROBIN = Person("Robin", "Sample", "REF7K41", "(415) 555-0123", email="robin@example.org", tier="gold")
OTHERS = [
    Person("Kim", "Shared", "REF0001", "+14155550777"),
    Person("Lee", "Shared", "REF0002", mobile="(415) 555-0777"),
    Person("Max", "Muster", "O'REF", "+49 30 5550100"),
]
PHONE = {"zendesk": "phone", "hubspot": "phone", "salesforce": "Phone", "dynamics": "telephone1"}


@cache
def described(name: str) -> dict[str, ActionDef]:
    """The actions of a project that uses the vendor's preset under a name of its own."""
    with TemporaryDirectory() as directory:
        return project(Path(directory), f"{VENDORS[name].include}connector: crm\ncredentials: theirs\n")


class Desk:
    """A project that uses the preset, asking the fake."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.name = next(name for name, kind in VENDORS.items() if isinstance(vendor, kind))
        self.definitions = described(self.name)
        self.ids = {person.reference: vendor.add(person) for person in (ROBIN, *OTHERS)}
        self._posted = Posted()
        self._asked = 0

    async def ask(self, method: str, **params: Any) -> Any:
        """The event that one action ends in."""
        self._asked += 1
        systems = {"theirs": Credentials(**self.vendor.systems())}
        name = f"crm.{method}"
        actions = Actions({name: self.definitions[name]}, systems, self._posted, [Origin(origin=self.vendor.base_url, allow_private=True)])
        actions.carry_out(StartAction("c1", f"c1-action{self._asked}", name, params, 4.0))
        event = await self._posted.event()
        await actions.close()
        return event

    async def values(self, method: str, **params: Any) -> dict[str, Any]:
        """The attributes of one that succeeds."""
        event = await self.ask(method, **params)
        assert isinstance(event, ActionSucceeded), event
        return dict(event.values)


@pytest.fixture(params=sorted(VENDORS))
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    async with VENDORS[request.param](tmp_path) as vendor:
        yield Desk(vendor)


def project(directory: Path, text: str) -> dict[str, ActionDef]:
    (directory / "crm.yaml").write_text(text)
    return load_actions(directory)


# ---- the seven, for every vendor ---------------------------------------------------------------------------------------


async def test_a_caller_is_found_by_a_number_that_somebody_typed_in_another_way(desk):
    found = await desk.values("find_by_number", phone="+14155550123")
    assert (found["found"], found["count"], found["id"]) == (True, 1, desk.ids["REF7K41"])
    assert (found["name"], found["reference"], found["email"]) == ("Robin Sample", "REF7K41", "robin@example.org")
    assert (found["phone"], found["tier"], found["gold"]) == ("(415) 555-0123", "gold", True)
    assert found["id"] in found["record_url"]


@pytest.mark.parametrize("stored", ["+14155550188", "14155550188", "(415) 555-0188", "4155550188", "+1 415-555-0188"])
async def test_every_common_way_to_write_a_number_is_found(desk, stored):
    desk.vendor.add(Person("Pat", "Stored", phone=stored))
    found = await desk.values("find_by_number", phone="+14155550188")
    assert (found["count"], found["name"]) == (1, "Pat Stored")


async def test_a_number_that_nobody_has_and_one_that_two_share(desk):
    nobody = await desk.values("find_by_number", phone="+14155550999")
    assert (nobody["found"], nobody["count"], nobody["id"], nobody["record_url"], nobody["gold"]) == (False, 0, "", "", False)
    shared = await desk.values("find_by_number", phone="+14155550777")
    assert (shared["found"], shared["count"]) == (False, 2)


async def test_a_number_abroad_is_found_too(desk):
    found = await desk.values("find_by_number", phone="+49305550100")
    assert (found["count"], found["name"]) == (1, "Max Muster")


async def test_a_caller_is_found_by_reference(desk):
    found = await desk.values("find_by_reference", reference="REF7K41")
    assert (found["found"], found["count"], found["name"]) == (True, 1, "Robin Sample")
    nobody = await desk.values("find_by_reference", reference="0000000")
    assert (nobody["found"], nobody["count"]) == (False, 0)


@pytest.mark.parametrize("reference", ["x' OR Name != 'x", "x' or fullname ne 'x", "x type:user role:end-user", "x\\' OR Name != \\'x"])
async def test_what_an_outsider_sends_stays_a_value_in_the_query(desk, reference):
    found = await desk.values("find_by_reference", reference=reference)
    assert found["count"] == 0


async def test_a_reference_with_a_quote_in_it_is_found_except_by_zendesk_s_search_which_has_no_quoting(desk):
    found = await desk.values("find_by_reference", reference="O'REF")
    assert found["name"] == ("" if desk.name == "zendesk" else "Max Muster")


async def test_no_digit_is_no_search(desk):
    before = len(desk.vendor.asked)
    event = await desk.ask("find_by_number", phone="anonymous")
    assert isinstance(event, ActionFailed)
    assert (event.reason, len(desk.vendor.asked)) == ("bad_request", before)


async def test_a_contact_is_read_and_its_page_opened(desk):
    contact = await desk.values("read", id=desk.ids["REF7K41"])
    assert (contact["name"], contact["reference"], contact["email"]) == ("Robin Sample", "REF7K41", "robin@example.org")
    assert (contact["tier"], contact["gold"]) == ("gold", True)
    opened = await desk.values("open_record", id=desk.ids["REF7K41"])
    assert opened["record_url"] == contact["record_url"]
    assert opened["record_url"].startswith("https://")


@pytest.mark.parametrize("method", ["read", "open_record"])
async def test_a_contact_that_is_gone_is_a_failure(desk, method):
    gone = "00000000-0000-0000-0000-000000000404" if desk.name == "dynamics" else "404"
    event = await desk.ask(method, id=gone)
    assert (event.reason, event.detail) == ("status", "HTTP 404")


async def test_a_contact_is_changed_and_the_rest_of_it_stays(desk):
    await desk.values("update", id=desk.ids["REF7K41"], changes={PHONE[desk.name]: "+14155550124"})
    contact = await desk.values("read", id=desk.ids["REF7K41"])
    assert (contact["phone"], contact["email"]) == ("+14155550124", "robin@example.org")


async def test_a_change_of_somebody_who_is_gone_makes_nobody(desk):
    gone = "00000000-0000-0000-0000-000000000404" if desk.name == "dynamics" else "404"
    event = await desk.ask("update", id=gone, changes={PHONE[desk.name]: "+14155550124"})
    assert (event.reason, event.detail) == ("status", "HTTP 404")
    assert (await desk.values("find_by_number", phone="+14155550124"))["count"] == 0


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_a_call_is_written_down(desk, direction):
    told = {"contact": desk.ids["REF7K41"], "subject": "Asked for the order", "text": "Was sent the link", "call": CALL}
    made = await desk.values("create_activity", **told, direction=direction, started="2026-01-05T10:00:00Z", seconds=95)
    assert desk.vendor.activities() == [{**told, "direction": direction}]
    assert made["id"] in made["record_url"]


async def test_a_case_is_opened_and_its_number_known(desk):
    told = {"contact": desk.ids["REF7K41"], "subject": "Parcel is damaged", "text": 'The "screen" is cracked'}
    made = await desk.values("create_case", **told, priority="urgent")
    await desk.values("create_case", **told)
    first, second = desk.vendor.cases()
    assert first == {**told, "number": made["number"], "urgent": True}
    assert not second["urgent"]
    assert made["id"] in made["record_url"]


async def test_a_case_for_somebody_who_is_gone_is_a_failure_and_opens_nothing(desk):
    gone = "00000000-0000-0000-0000-000000000404" if desk.name == "dynamics" else "404"
    event = await desk.ask("create_case", contact=gone, subject="Parcel", text="damaged")
    assert isinstance(event, ActionFailed)
    assert desk.vendor.cases() == []


# ---- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["find_by_number", "create_case"])
async def test_a_token_that_has_expired_is_a_failure_and_a_new_one_works(desk, method):
    params = {"find_by_number": {"phone": "+14155550123"}, "create_case": {"contact": desk.ids["REF7K41"], "subject": "s", "text": "t"}}
    systems, current = desk.vendor.systems, desk.vendor.systems()
    desk.vendor.expire()
    desk.vendor.systems = lambda: current
    event = await desk.ask(method, **params[method])
    assert (event.reason, event.detail) == ("status", "HTTP 401")
    assert desk.vendor.cases() == []
    desk.vendor.systems = systems
    assert await desk.values(method, **params[method])


async def test_too_many_requests_is_a_failure_and_passes(desk):
    desk.vendor.limit(1)
    event = await desk.ask("find_by_number", phone="+14155550123")
    assert event.reason == "status"
    assert event.detail.startswith("HTTP 403" if desk.name == "salesforce" else "HTTP 429")
    assert (await desk.values("find_by_number", phone="+14155550123"))["count"] == 1


async def test_a_write_whose_answer_was_lost_is_repeated_only_where_that_is_harmless(desk):
    """The activity of a call and a case exist once at most, whatever became of the answer; where it was asked again they are confirmed."""
    repeatable = {name for name in ("create_activity", "create_case") if desk.definitions[f"crm.{name}"].run.retry}
    told = {"contact": desk.ids["REF7K41"], "subject": "s", "text": "t"}
    desk.vendor.lose(1)
    activity = await desk.ask("create_activity", **told, call=CALL, started="2026-01-05T10:00:00Z")
    assert isinstance(activity, ActionSucceeded if "create_activity" in repeatable else ActionFailed)
    desk.vendor.lose(1)
    case = await desk.ask("create_case", **told)
    assert isinstance(case, ActionSucceeded if "create_case" in repeatable else ActionFailed)
    assert (len(desk.vendor.activities()), len(desk.vendor.cases())) == (1, 1)


# ---- samples, and the files around them --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(VENDORS))
async def test_every_sample_of_a_preset_holds_and_is_answered_over_a_real_socket(tmp_path, name):
    definitions = project(tmp_path, VENDORS[name].include)
    assert check_samples(definitions) == []
    assert {full.partition(".")[2] for full in definitions} == METHODS
    posted = Posted()
    async with FakeSystem(definitions) as system:
        actions = Actions(definitions, system.credentials, posted, system.origins)
        for action, definition in definitions.items():
            for title, sample in definition.samples.items():
                actions.carry_out(StartAction("c1", f"{action}-{title}", action, sample_parameters(definition, title)))
                event = await posted.event()
                if sample.fails:
                    assert (event.request, event.reason) == (f"{action}-{title}", sample.fails)
                else:
                    assert sample_outputs(definition, title).items() <= event.values.items()
        await actions.close()


@pytest.mark.parametrize("name", preset.names())
def test_presets_promise_the_same_so_that_a_flow_need_not_know_the_vendor(tmp_path, name):
    needed = {setting: {"site": "https://acme.example", "portal": "1"}.get(setting, "Field_1") for setting in needs(name)}
    definitions = project(tmp_path, f"preset: {name}\nconnector: crm\nsettings: {json.dumps(needed)}\n")
    assert {full.partition(".")[2] for full in definitions} == METHODS
    common = {"found", "count", "id", "reference", "name", "phone", "email", "record_url"}
    for method in ("find_by_number", "find_by_reference"):
        assert common <= definitions[f"crm.{method}"].outputs.keys()
        assert {**definitions[f"crm.{method}"].inputs} == {"phone" if method == "find_by_number" else "reference": "string"}
    assert common - {"found", "count"} <= definitions["crm.read"].outputs.keys()
    assert set(definitions["crm.create_activity"].parameters) == {"contact", "call", "subject", "text", "direction", "started", "seconds"}
    assert set(definitions["crm.create_case"].parameters) == {"contact", "subject", "text", "priority"}
    assert {"id", "number", "record_url"} == set(definitions["crm.create_case"].outputs)
    assert preset.load_preset(name).source


def needs(name: str) -> list[str]:
    return [setting for setting, each in preset.load_preset(name).settings.items() if each.default is None]


def test_a_project_adds_methods_and_replaces_them(tmp_path):
    own = """
methods:
  find_by_number:
    request: {method: GET, url: "{{ base_url }}/own", query: {p: "{{ phone | digits }}"}}
    parameters: {phone: {type: string}}
    response: {count: {path: count, type: integer}}
    auth: {scheme: bearer, credentials: own}
    samples: {one: {parameters: {phone: "+1 23"}, request: "GET /own?p=123", response: {body: '{"count": 1}'}, expect: {count: "1"}}}
"""
    definitions = project(tmp_path, "preset: hubspot\nsettings: {portal: '1'}\n" + own)
    assert definitions["hubspot.find_by_number"].outputs == {"count": "int"}
    assert definitions["hubspot.read"].auth.credentials == "hubspot"
    assert check_samples(definitions) == []


def test_fields_of_one_s_own_have_a_value_where_the_record_has_none(tmp_path):
    kinds = ("string", "boolean", "number", "integer", "object", "list of string")
    fields = {f"own_{n}": {"field": f"Own_{n}__c", "type": kind} for n, kind in enumerate(kinds)}
    needed = {"site": "https://acme.example", "reference_field": "Number__c"}
    definitions = project(tmp_path, json.dumps({"preset": "salesforce", "settings": needed, "fields": fields}))
    response = definitions["salesforce.read"].response
    assert [from_text(response[name].default or "", response[name].type) for name in fields] == ["", False, 0.0, 0, {}, []]
    assert check_samples(definitions) == []


def test_another_way_to_prove_who_asks(tmp_path):
    one = project(tmp_path, "preset: zendesk\nsettings: {site: 'https://a.example'}\nauth: bearer\ncredentials: theirs\n")
    assert {(each.auth.scheme, each.auth.credentials) for each in one.values()} == {("bearer", "theirs")}
    other = project(tmp_path, "preset: zendesk\nsettings: {site: 'https://a.example'}\nauth: {scheme: basic, credentials: x}\n")
    assert {(each.auth.scheme, each.auth.credentials) for each in other.values()} == {("basic", "x")}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("preset: siebel", "1: preset: expected one of: dynamics, hubspot"),
        ("preset: zendesk\nsettings:\n  sight: x", "3: settings.sight: the preset has no such setting; there are: site"),
        ("preset: zendesk", "1: settings: the preset needs the setting site: the address of the agents' pages"),
        ("preset: zendesk\nsettings:\n  site: acme", "3: settings.site: expected the address of the agents' pages"),
        ('preset: zendesk\nsettings:\n  site: "https://a\'b"', "3: settings.site: expected the address"),
        ("preset: zendesk\nsettings: {site: 'https://a'}\nfields:\n  tier: {field: \"a'b\"}", "4: fields.tier.field: "),
        ("preset: zendesk\nsettings: {site: 'https://a'}\nfields:\n  tier: {field: a, type: bool}", "4: fields.tier.type: "),
        ("preset: salesforce\nsettings: {site: 'https://a'}", "2: settings: the preset needs the setting reference_field"),
        ("preset: salesforce\nsettings: {site: 'https://a', reference_field: Email}", "2: settings.reference_field: expected the field"),
        ("preset: zendesk\nsettings: {site: 'https://a'}\nauth: kerberos", "3: auth: expected a mapping, or one of: basic, bearer"),
        ("preset: zendesk\nsettings: {site: 'https://a'}\nmethods:\n  own: {request: x}", "4: methods.own.request: "),
        ("preset: zendesk\nsettings: {site: 'https://a'}\nport: x", "3: port: no such key is known here"),
    ],
)
def test_mistakes_in_a_project_s_file_are_told_with_their_line(tmp_path, text, mistake):
    with pytest.raises(ActionFileError) as caught:
        project(tmp_path, text)
    assert f"crm.yaml:{mistake}" in str(caught.value)


# ---- filters -----------------------------------------------------------------------------------------------------------


def test_the_ways_to_write_a_number():
    assert forms("+14155550123") == ["+14155550123", "14155550123", "4155550123", "(415) 555-0123", "+1 415-555-0123"]
    assert forms("+49305550100") == ["+49305550100", "49305550100", "0305550100", "305550100", "030 5550100", "+49 30 5550100"]
    assert (forms("110"), forms("+1"), national("+49305550100"), national("0800 1")) == (["110"], ["1"], "305550100", "08001")


def test_numbers_of_every_country_are_written_with_harmless_characters():
    for region in phonenumbers.SUPPORTED_REGIONS:
        example = phonenumbers.example_number(region)
        if example is not None:
            written = forms(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164))
            assert set("".join(written)) <= set("0123456789+()./ -"), region
            assert len(written) > 1


@pytest.mark.parametrize("wrong", [lambda: forms("+"), lambda: national("x"), lambda: term("*:"), lambda: whole("1.5"), lambda: guid("12")])
def test_what_fits_no_filter_is_refused(wrong):
    with pytest.raises(NotFit):
        wrong()


def test_texts_for_queries():
    assert soql("O'Re\\il\"ly\n") == "O\\'Re\\\\il\\\"ly\\n"
    assert odata("O'Reilly") == "O''Reilly"
    assert term('a:b* "c"') == "abc"
    assert guid(CALL) == guid(guid(CALL)) == "5d1c6a0f-9b0e-4c7d-8a2b-3c4d5e6f7a8b"
