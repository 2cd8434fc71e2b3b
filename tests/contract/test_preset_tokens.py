"""The presets with OAuth2: a token is fetched from the vendor's own endpoint, and a new one where it has expired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.actions.credentials import Credentials
from app.actions.files import load_actions
from app.actions.guard import Origin
from app.actions.runner import Actions
from app.core.commands import StartAction
from app.core.events import ActionFailed, ActionSucceeded
from tests.contract.doors import Posted
from tests.contract.vendors.dynamics import TENANT, Dynamics
from tests.contract.vendors.hubspot import HubSpot
from tests.contract.vendors.salesforce import Salesforce
from tests.contract.vendors.vendor import Person, Vendor

ROBIN = Person("Robin", "Sample", "REF7K41", "+14155550123")
WAYS: list[tuple[type[Vendor], str, dict[str, str]]] = [
    (Salesforce, "oauth2_client", {"client_id": Salesforce.client[0], "client_secret": Salesforce.client[1]}),
    (Dynamics, "oauth2_client", {"client_id": Dynamics.client[0], "client_secret": Dynamics.client[1]}),
    (
        HubSpot,
        "oauth2_refresh",
        {"client_id": HubSpot.client[0], "client_secret": HubSpot.client[1], "refresh_token": HubSpot.client[2]},
    ),
]


def asking(vendor: Vendor, directory: Path, scheme: str, access: dict[str, str]) -> tuple[Actions, Posted]:
    """The actions of a project that uses the vendor's preset in this way."""
    login = f'login: "{vendor.base_url}/{TENANT}", ' if isinstance(vendor, Dynamics) else ""
    include = vendor.include.replace("settings: {", f"settings: {{{login}")
    directory.mkdir()
    (directory / "crm.yaml").write_text(f"{include}connector: crm\ncredentials: theirs\nauth: {scheme}\n")
    posted = Posted()
    systems = {"theirs": Credentials(base_url=vendor.base_url, **access)}
    return Actions(load_actions(directory), systems, posted, [Origin(origin=vendor.base_url, allow_private=True)]), posted


@pytest.mark.parametrize(("kind", "scheme", "access"), WAYS)
async def test_a_token_is_fetched_and_renewed_when_it_has_expired(tmp_path, kind, scheme, access):
    async with kind(tmp_path) as vendor:
        vendor.add(ROBIN)
        actions, posted = asking(vendor, tmp_path / "actions", scheme, access)
        for n, expire in enumerate((False, False, True)):
            if expire:
                vendor.expire()
            actions.carry_out(StartAction("c1", f"c1-action{n}", "crm.find_by_number", {"phone": "+14155550123"}, 4.0))
            event: Any = await posted.event()
            assert isinstance(event, ActionSucceeded), event
            assert event.values["name"] == "Robin Sample"
        await actions.close()
    tokens = [line for line in vendor.asked if line.endswith("/token")]
    assert len(tokens) == 2, "one for the first two requests, one after it expired"


@pytest.mark.parametrize(("kind", "scheme", "access"), WAYS)
async def test_a_client_that_is_not_let_in_is_a_failure(tmp_path, kind, scheme, access):
    async with kind(tmp_path) as vendor:
        actions, posted = asking(vendor, tmp_path / "actions", scheme, {**access, "client_secret": "wrong"})
        actions.carry_out(StartAction("c1", "c1-action1", "crm.find_by_number", {"phone": "+14155550123"}, 4.0))
        event = await posted.event()
        assert isinstance(event, ActionFailed)
        assert event.reason in ("auth", "status")
        await actions.close()
    assert not [line for line in vendor.asked if not line.endswith("/token")]
