"""The page of the flows on a real call: a caller waits in a menu, and the page shows it there until the caller has gone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.browser import CHROMIUM, FLAGS, built_desk
from tests.e2e.house import NO_MAIL, LiveHouse

pytestmark = pytest.mark.pbx
SHOTS = os.environ.get("CALLWRIGHT_TEST_SHOTS")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_desk(tmp_path_factory.mktemp("desk"))


def test_a_caller_in_a_menu_is_on_its_box_until_they_hang_up(house: LiveHouse, built: Path) -> None:
    with sync_playwright() as playwright, house.visit(NO_MAIL) as visit:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(10_000)
        page.goto(f"http://127.0.0.1:{house.installation.ports.api}/flows/")
        page.get_by_label("Token").fill(house.installation.keep()["admin_token"])
        page.get_by_role("button", name="Look").click()
        menu = page.locator('[data-step="offer_agent"]')
        expect(menu.locator(".badge")).to_have_text("1", timeout=25_000)
        menu.click()
        (row,) = page.get_by_role("list", name="Calls at offer_agent").get_by_role("button").all()
        expect(row).to_contain_text("+49…104")
        expect(row).to_contain_text(re.compile(r"in the flow\d\d:\d\d$"))
        row.click()
        expect(page.get_by_label("Variables")).to_contain_text("first_name")
        expect(page.get_by_text(visit.call).first).to_be_visible()
        page.get_by_role("button", name="Timeline").click()
        expect(page.get_by_role("list", name="Timeline")).to_contain_text("step offer_agent")
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / "flows-8-real.png")
        assert NO_MAIL not in page.inner_text("body")
        visit.phone.hang_up()
        expect(menu.locator(".badge")).to_have_count(0)
        expect(page.get_by_text("ended", exact=True)).to_be_visible()
        browser.close()
