"""The table of devices: live, filtered by a target, of any length, and by keyboard."""

import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from outrider.controller.hub.hub import Hub
from outrider.schema import Encoding, State, Topics, encode
from tests.controller.hub.pages.conftest import DEVICES, Stage, settings
from tests.peers import Peer

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 3000


async def open_table(page: Page, stage: Stage, query: str = "") -> None:
    await page.goto(f"{stage.url}#/devices{query}")
    await expect(page.locator("tbody tr[data-row]").first).to_be_visible()


async def test_all_devices_are_shown_with_status_and_tags(page: Page, stage: Stage) -> None:
    await open_table(page, stage)
    for id in DEVICES:
        await expect(page.get_by_role("row", name=id).get_by_text("ready")).to_be_visible()
    await expect(page.get_by_role("row", name="lamp-1")).to_contain_text("room=kitchen")
    await expect(page.locator("#shown")).to_have_text(f"{len(DEVICES)} devices")
    await expect(page.get_by_role("table", name="Devices")).to_have_attribute("aria-rowcount", str(len(DEVICES) + 1))


async def test_target_filters_the_table_and_stands_in_the_address(page: Page, stage: Stage) -> None:
    await open_table(page, stage)
    await page.get_by_label("Target").fill("room=kitchen and lamp-*")
    await expect(page.locator("tbody tr[data-row]")).to_have_count(1)
    await expect(page.get_by_role("row", name="lamp-1")).to_be_visible()
    await expect(page.locator("#shown")).to_have_text(f"1 device of {len(DEVICES)}")
    address = page.url
    await page.goto("about:blank")
    await page.goto(address)
    await expect(page.get_by_label("Target")).to_have_value("room=kitchen and lamp-*")
    await expect(page.locator("tbody tr[data-row]")).to_have_count(1)


async def test_target_that_cannot_be_read_says_why(page: Page, stage: Stage) -> None:
    await open_table(page, stage)
    await page.get_by_label("Target").fill("room=kitchen and (")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_label("Target")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Target").fill("")
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(page.locator("tbody tr[data-row]")).to_have_count(len(DEVICES))


async def test_change_of_a_device_is_shown_and_moves_it_in_and_out_of_a_target(page: Page, stage: Stage) -> None:
    await open_table(page, stage)
    async with stage.fleet() as fleet:
        await fleet.call("oven-1", "stop")
        await expect(page.get_by_role("row", name="oven-1").get_by_text("unready")).to_be_visible()
        await page.get_by_role("button", name="unready").click()
        await expect(page.locator("tbody tr[data-row]")).to_have_count(1)
        await fleet.call("oven-1", "start")
        await expect(page.locator("tbody tr[data-row]")).to_have_count(0)
    await page.get_by_label("Target").fill("oven-1")
    await expect(page.get_by_role("row", name="oven-1").get_by_text("ready")).to_be_visible()


async def test_heading_sorts(page: Page, stage: Stage) -> None:
    await open_table(page, stage)
    first = page.locator("tbody tr[data-row] a").first
    await expect(first).to_have_text("hostile")
    await page.get_by_role("columnheader", name="Device").get_by_role("button").click()
    await expect(first).to_have_text("oven-1")
    await expect(page.get_by_role("columnheader", name="Device")).to_have_attribute("aria-sort", "descending")


async def test_keyboard_goes_through_the_rows_and_opens_a_device(page: Page, stage: Stage) -> None:
    await open_table(page, stage)
    await page.get_by_label("Target").focus()
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.closest('tbody') !== null"):
            break
    await expect(page.get_by_role("link", name="hostile")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("link", name="lamp-1")).to_be_focused()
    await page.keyboard.press("End")
    await expect(page.get_by_role("link", name="oven-1")).to_be_focused()
    await page.keyboard.press("Home")
    await expect(page.get_by_role("link", name="hostile")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="hostile", level=1)).to_be_focused()


async def test_of_thousands_of_rows_only_those_in_sight_are_in_the_document(
    page: Page, stage: Stage, tmp_path: Path
) -> None:
    topics = Topics("many")
    async with Peer(stage.broker) as peer:
        for number in range(MANY):
            state = State(device=f"sim-{number}", status="ready", session=1, since=time.time())
            peer.send(topics.state(state.device), encode(state, Encoding.JSON), retain=True)
        await peer.round_trip(30)
    async with Hub(settings(stage.broker, tmp_path, requester="many", prefix="many")) as hub:
        await page.goto(f"{hub.url}/#/devices")
        await expect(page.locator("#shown")).to_have_text(f"{MANY:,} devices")
        rows = page.locator("tbody tr[data-row]")
        assert await rows.count() < 60
        await page.get_by_role("link", name="sim-0", exact=True).focus()
        await page.keyboard.press("End")
        await expect(page.get_by_role("link", name=f"sim-{MANY - 1}")).to_be_focused()
        assert await rows.count() < 60
        await expect(rows.last).to_have_attribute("aria-rowindex", str(MANY + 1))
        await page.keyboard.press("PageUp")
        await expect(page.get_by_role("link", name=f"sim-{MANY - 1}", exact=True)).not_to_be_focused()
        await expect(page.locator("tr[data-row] a:focus")).to_be_visible()
        assert int(await page.evaluate("document.activeElement.closest('tr').dataset.row")) < MANY - 1


async def test_hub_that_is_away_is_said_and_found_again(page: Page, stage: Stage, tmp_path: Path) -> None:
    async with Hub(settings(stage.broker, tmp_path, requester="other")) as hub:
        url = hub.url
        await page.goto(f"{url}/#/devices")
        await expect(page.locator(".connection")).to_have_text("live")
    await expect(page.get_by_role("alert")).to_contain_text("The hub is away")
    await expect(page.get_by_role("row", name="lamp-1")).to_be_visible()  # what was known stays
    async with Hub(settings(stage.broker, tmp_path, requester="other", port=int(url.rpartition(":")[2]))):
        await expect(page.locator(".connection")).to_have_text("live")
        await expect(page.get_by_role("alert")).to_be_hidden()
        async with stage.fleet() as fleet:
            await fleet.call("oven-1", "stop")
            await expect(page.get_by_role("row", name="oven-1").get_by_text("unready")).to_be_visible()
            await fleet.call("oven-1", "start")
