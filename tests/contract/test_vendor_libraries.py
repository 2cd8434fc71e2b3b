"""The vendors' own Python libraries ask our fakes: where they are content, the fakes are shaped like the real systems.

For Dynamics 365 there is no library for the data; Microsoft's `msal` gets the token and the rows are asked for as Microsoft's documents do.
Tryton is real in our tests and its libraries, proteus and naiad, fill it (see `tests/tryton_inside.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hubspot
import msal
import pytest
import requests
from hubspot.crm.contacts import ApiException as ContactsError
from hubspot.crm.contacts import Filter, FilterGroup, PublicObjectSearchRequest, SimplePublicObjectInput
from hubspot.crm.objects.calls import SimplePublicObjectInputForCreate as NewCall
from hubspot.crm.tickets import SimplePublicObjectInputForCreate as NewTicket
from simple_salesforce import Salesforce as SalesforceLibrary
from simple_salesforce.exceptions import SalesforceExpiredSession, SalesforceMalformedRequest, SalesforceResourceNotFound
from zenpy import Zenpy
from zenpy.lib.api_objects import Comment, Ticket
from zenpy.lib.exception import APIException, RecordNotFoundException

from tests.contract.vendors.dynamics import TENANT, Dynamics
from tests.contract.vendors.hubspot import HubSpot
from tests.contract.vendors.salesforce import Salesforce
from tests.contract.vendors.vendor import Person
from tests.contract.vendors.zendesk import AGENT, Zendesk

ROBIN = Person("Robin", "Sample", "REF7K41", "+14155550123", email="robin@example.org", tier="gold")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries trust the fakes' certificates and no other, and ask them directly."""
    for name in (
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)


async def aside(do: Callable[[], Any]) -> Any:
    """What a library that waits does, while the fake answers it."""
    return await asyncio.to_thread(do)


# ---- Zendesk: zenpy ----------------------------------------------------------------------------------------------------


def zenpy(vendor: Zendesk, token: str = "") -> Zenpy:
    """zenpy puts a subdomain before a domain and insists on TLS: 127 and 0.0.1 make the loopback."""
    session = requests.Session()
    session.verify = str(vendor.certificate)
    subdomain, _, domain = vendor.secure_url.removeprefix("https://").partition(".")
    return Zenpy(domain=domain, subdomain=subdomain, email=AGENT, token=token or vendor.token, session=session)


async def test_zenpy_searches_reads_changes_and_opens_tickets(tmp_path: Path):
    async with Zendesk(tmp_path, tls=True) as vendor:
        number = int(vendor.add(ROBIN))
        vendor.add(Person("Kim", "Other", phone="+14155550999"))
        client = zenpy(vendor)
        found = await aside(lambda: list(client.search("phone:*4155550123", type="user", role="end-user")))
        assert [(user.id, user.name, user.external_id) for user in found] == [(number, "Robin Sample", "REF7K41")]
        user = await aside(lambda: client.users(id=number))
        assert (user.email, user.locale, user.user_fields["tier"]) == ("robin@example.org", "en-US", "gold")

        def change() -> Any:
            user.phone = "+14155550124"
            return client.users.update(user)

        assert (await aside(change)).phone == "+14155550124"
        ticket = Ticket(subject="Parcel", comment=Comment(body="damaged", public=False), requester_id=number, priority="urgent")
        made = await aside(lambda: client.tickets.create(ticket))
        assert (made.ticket.subject, made.ticket.status) == ("Parcel", "new")
        assert vendor.cases() == [
            {"contact": str(number), "subject": "Parcel", "text": "damaged", "number": str(made.ticket.id), "urgent": True}
        ]


async def test_zenpy_understands_what_goes_wrong(tmp_path: Path):
    async with Zendesk(tmp_path, tls=True) as vendor:
        with pytest.raises(RecordNotFoundException):
            await aside(lambda: zenpy(vendor).users(id=404))
        with pytest.raises(APIException, match="Couldn't authenticate you"):
            await aside(lambda: zenpy(vendor, "wrong").users(id=1))


# ---- HubSpot: hubspot-api-client ---------------------------------------------------------------------------------------


def by_phone(number: str) -> PublicObjectSearchRequest:
    """A search as HubSpot's documents describe it."""
    condition = Filter(property_name="hs_searchable_calculated_phone_number", operator="EQ", value=number)
    return PublicObjectSearchRequest(
        filter_groups=[FilterGroup(filters=[condition])], properties=["firstname", "phone", "customer_number"], limit=2
    )


async def test_hubspot_s_client_searches_reads_changes_and_writes_down(tmp_path: Path):
    async with HubSpot(tmp_path) as vendor:
        number = vendor.add(ROBIN)
        client = hubspot.HubSpot(access_token=vendor.token, host=vendor.base_url)
        found = await aside(lambda: client.crm.contacts.search_api.do_search(by_phone("4155550123")))
        assert (found.total, found.results[0].id, found.results[0].properties["customer_number"]) == (1, number, "REF7K41")
        read = await aside(lambda: client.crm.contacts.basic_api.get_by_id(number, properties=["firstname", "lastname", "tier"]))
        assert (read.properties["lastname"], read.properties["tier"], read.archived) == ("Sample", "gold", False)
        changed = SimplePublicObjectInput(properties={"phone": "+14155550124"})
        await aside(lambda: client.crm.contacts.basic_api.update(number, simple_public_object_input=changed))
        assert (await aside(lambda: client.crm.contacts.search_api.do_search(by_phone("4155550124")))).total == 1
        told = {"hs_timestamp": "2026-01-05T10:00:00Z", "hs_call_title": "Asked", "hs_call_body": "x", "hs_call_direction": "INBOUND"}
        call = NewCall(properties=told, associations=[association(number, 194)])
        await aside(lambda: client.crm.objects.calls.basic_api.create(simple_public_object_input_for_create=call))
        case = {"subject": "Parcel", "content": "damaged", "hs_pipeline_stage": "1", "hs_ticket_priority": "URGENT"}
        ticket = NewTicket(properties=case, associations=[association(number, 16)])
        made = await aside(lambda: client.crm.tickets.basic_api.create(simple_public_object_input_for_create=ticket))
        assert [each["subject"] for each in vendor.activities()] == ["Asked"]
        assert vendor.cases() == [{"contact": number, "subject": "Parcel", "text": "damaged", "number": made.id, "urgent": True}]


def association(contact: str, kind: int) -> dict[str, Any]:
    return {"to": {"id": contact}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind}]}


async def test_hubspot_s_client_gets_a_new_token_and_understands_what_goes_wrong(tmp_path: Path):
    async with HubSpot(tmp_path) as vendor:
        number = vendor.add(ROBIN)
        old = hubspot.HubSpot(access_token=vendor.token, host=vendor.base_url)
        identity, secret, refresh = vendor.client
        form = {"grant_type": "refresh_token", "client_id": identity, "client_secret": secret, "refresh_token": refresh}
        answer = await aside(lambda: old.oauth.tokens_api.create(**form))
        assert (answer.token_type, answer.expires_in) == ("bearer", 1800)
        with pytest.raises(ContactsError) as expired:
            await aside(lambda: old.crm.contacts.basic_api.get_by_id(number))
        assert (expired.value.status, "EXPIRED_AUTHENTICATION" in expired.value.body) == (401, True)
        client = hubspot.HubSpot(access_token=answer.access_token, host=vendor.base_url)
        with pytest.raises(ContactsError) as gone:
            await aside(lambda: client.crm.contacts.basic_api.get_by_id("404"))
        assert (gone.value.status, "OBJECT_NOT_FOUND" in gone.value.body) == (404, True)
        vendor.limit(1)
        with pytest.raises(ContactsError) as limited:
            await aside(lambda: client.crm.contacts.basic_api.get_by_id(number))
        assert (limited.value.status, "RATE_LIMIT" in limited.value.body) == (429, True)


# ---- Salesforce: simple-salesforce -------------------------------------------------------------------------------------


def simple(vendor: Salesforce, token: str = "") -> SalesforceLibrary:
    session = requests.Session()
    session.verify = str(vendor.certificate)
    return SalesforceLibrary(instance_url=vendor.secure_url, session_id=token or vendor.token, session=session, version="62.0")


async def test_simple_salesforce_queries_reads_changes_and_creates(tmp_path: Path):
    async with Salesforce(tmp_path, tls=True) as vendor:
        number = vendor.add(ROBIN)
        vendor.add(Person("Kim", "Other", "O'REF", "+14155550999"))
        client = simple(vendor)
        found = await aside(lambda: client.query("SELECT Id, Name FROM Contact WHERE Phone IN ('+14155550123') OR MobilePhone = 'x'"))
        assert (found["totalSize"], found["done"], found["records"][0]["Id"]) == (1, True, number)
        quoted = await aside(lambda: client.query("SELECT Name FROM Contact WHERE Customer_Number__c = 'O\\'REF' LIMIT 2"))
        assert [record["Name"] for record in quoted["records"]] == ["Kim Other"]
        assert len(await aside(lambda: list(client.query_all_iter("SELECT Id FROM Contact")))) == 2
        assert await aside(lambda: client.Contact.update(number, {"Phone": "+14155550124"})) == 204
        assert (await aside(lambda: client.Contact.get(number)))["Phone"] == "+14155550124"
        task = {"WhoId": number, "Subject": "Asked", "Description": "x", "CallType": "Inbound", "CallObject": "c1", "Status": "Completed"}
        assert (await aside(lambda: client.Task.create(task)))["success"] is True
        assert [each["subject"] for each in vendor.activities()] == ["Asked"]
        made = await aside(
            lambda: client.Case.create({"ContactId": number, "Subject": "Parcel", "Description": "damaged", "Priority": "High"})
        )
        case = await aside(lambda: client.Case.get(made["id"]))
        assert vendor.cases() == [{"contact": number, "subject": "Parcel", "text": "damaged", "number": case["CaseNumber"], "urgent": True}]


async def test_simple_salesforce_understands_what_goes_wrong(tmp_path: Path):
    async with Salesforce(tmp_path, tls=True) as vendor:
        client = simple(vendor)
        with pytest.raises(SalesforceResourceNotFound, match="NOT_FOUND"):
            await aside(lambda: client.Contact.get("003D000000000404AA"))
        with pytest.raises(SalesforceMalformedRequest, match="INVALID_FIELD"):
            await aside(lambda: client.query("SELECT Id, ShoeSize FROM Contact"))
        with pytest.raises(SalesforceMalformedRequest, match="MALFORMED_QUERY"):
            await aside(lambda: client.query("SELECT Id FROM Contact WHERE Name = 'O'REF'"))
        with pytest.raises(SalesforceExpiredSession, match="INVALID_SESSION_ID"):
            await aside(lambda: simple(vendor, "expired").query("SELECT Id FROM Contact"))


# ---- Dynamics 365: msal, and OData as Microsoft writes it --------------------------------------------------------------


async def test_msal_gets_a_token_that_the_web_api_takes(tmp_path: Path):
    async with Dynamics(tmp_path, tls=True) as vendor:
        number = vendor.add(ROBIN)

        def token(secret: str) -> Any:
            identity = msal.ConfidentialClientApplication(
                vendor.client[0],
                client_credential=secret,
                authority=f"{vendor.secure_url}/{TENANT}",
                instance_discovery=False,
                verify=str(vendor.certificate),
            )
            return identity.acquire_token_for_client([f"{vendor.base_url}/.default"])

        assert (await aside(lambda: token("wrong")))["error"] == "invalid_client"
        answer = await aside(lambda: token(vendor.client[1]))
        assert (answer["token_type"], 3500 < answer["expires_in"] <= 3599) == ("Bearer", True)
        headers = {"Authorization": f"Bearer {answer['access_token']}", "OData-Version": "4.0", "Accept": "application/json"}
        query = {"$select": "fullname", "$filter": "contains(fullname,'x')"}

        def ask(path: str, **how: Any) -> requests.Response:
            return requests.request(how.pop("method", "GET"), f"{vendor.base_url}/api/data/v9.2/{path}", headers=headers, timeout=5, **how)

        assert (await aside(lambda: ask("WhoAmI"))).json().keys() == {"BusinessUnitId", "UserId", "OrganizationId"}
        assert (await aside(lambda: ask("contacts", params=query))).status_code == 400
        query["$filter"] = "(mobilephone eq '1' or telephone1 eq '+14155550123') and statecode eq 0"
        found = (await aside(lambda: ask("contacts", params=query))).json()["value"]
        assert [(row["contactid"], row["fullname"]) for row in found] == [(number, "Robin Sample")]
        made = await aside(
            lambda: ask("incidents", method="POST", json={"title": "Parcel", "customerid_contact@odata.bind": f"/contacts({number})"})
        )
        assert (made.status_code, made.text) == (204, "")
        case = (await aside(lambda: ask(made.headers["OData-EntityId"].split("/v9.2/")[1]))).json()
        assert (case["title"], case["_customerid_value"]) == ("Parcel", number)
