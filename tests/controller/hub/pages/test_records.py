"""What the hub remembers: events as charts and sums, and the audit log."""

import json
import time

import pytest
from playwright.async_api import Page, expect

from outrider.schema import Topics
from tests.controller.hub.pages.conftest import Stage
from tests.controller.hub.pages.scenery import MARKUP
from tests.peers import Peer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def tell(stage: Stage, name: str, *events: dict[str, object]) -> None:
    """Publish events as lamp-1 would."""
    async with Peer(stage.broker) as peer:
        for number, event in enumerate(events):
            id = f"{name}-{time.time_ns()}-{number}"
            message = {"id": id, "device": "lamp-1", "name": name, "time": time.time(), **event}
            peer.send(Topics().event("lamp-1", name), json.dumps(message).encode())
        await peer.round_trip()


async def test_events_are_drawn_summed_up_and_listed_as_they_come(page: Page, stage: Stage) -> None:
    await tell(stage, "opened", {"key": "door", "subject": "s-1"}, {"key": "window"})
    await page.goto(f"{stage.url}#/events?name=opened")
    sums = page.get_by_role("table", name="Sums")
    await expect(sums.get_by_role("row", name="door").get_by_role("cell").nth(1)).to_have_text("1")
    await expect(page.get_by_role("list", name="Lines").get_by_role("listitem")).to_have_count(2)
    await tell(stage, "opened", {"key": "door", "subject": "s-2", "data": {"by": MARKUP}})
    await expect(sums.get_by_role("row", name="door").get_by_role("cell").nth(1)).to_have_text("2")
    await expect(page.get_by_role("img", name="opened per 10 seconds")).to_have_accessible_name(
        "opened per 10 seconds, the last 10 minutes: 3 events"
    )
    await expect(page.get_by_role("table", name="Events").get_by_role("row").nth(1)).to_contain_text(MARKUP[:10])
    await tell(stage, "closed", {"subject": "s-1"})
    await expect(sums.get_by_role("row", name="door")).to_contain_text("1 closed")
    await page.get_by_label("Key").fill("window")
    await expect(sums.locator("tbody tr")).to_have_count(1)
    await page.get_by_label("Key").fill("")
    await page.get_by_label("Range").select_option("1 day")
    await expect(sums.get_by_role("row", name="door").get_by_role("cell").nth(1)).to_have_text("2")
    assert await page.evaluate("window.harmed") is None


async def test_new_name_of_events_can_be_chosen(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/events")
    await tell(stage, "rung", {"key": MARKUP})
    await page.get_by_label("Event", exact=True).select_option("rung")
    await expect(page.get_by_role("list", name="Lines")).to_contain_text(MARKUP)


async def test_link_and_back_within_a_view_change_what_it_shows(page: Page, stage: Stage) -> None:
    await tell(stage, "lifted", {"key": "lid"})
    await tell(stage, "lowered", {"key": "lid"})
    chosen = page.get_by_label("Event", exact=True)
    await page.goto(f"{stage.url}#/events?name=lifted")
    await expect(chosen).to_have_value("lifted")
    await page.goto(f"{stage.url}#/events?name=lowered")
    await expect(chosen).to_have_value("lowered")
    await page.go_back()
    await expect(chosen).to_have_value("lifted")
    await page.goto(f"{stage.url}#/audit?requester=nobody")
    await page.goto(f"{stage.url}#/audit?command=dim")
    await expect(page.get_by_label("Requester")).to_have_value("")
    await expect(page.get_by_label("Command", exact=True)).to_have_value("dim")


async def test_short_texts_in_a_table_are_not_broken_within_a_word(page: Page, stage: Stage) -> None:
    await tell(stage, "weighed", {"key": "scales", "data": {"grams": 1000}})
    await page.set_viewport_size({"width": 390, "height": 740})
    await page.goto(f"{stage.url}#/events?name=weighed")
    key = page.get_by_role("table", name="Events").get_by_text("scales")
    assert await key.evaluate("(cell) => cell.getClientRects().length") == 1
    box = await key.bounding_box()
    assert box is not None
    assert box["height"] < 30


async def test_audit_log_has_every_command_whoever_sent_it(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/audit")
    table = page.get_by_role("table", name="Commands")
    async with stage.fleet() as fleet:
        await fleet.call("lamp-1", "dim", level=33)
        row = table.locator("tbody tr", has_text="somebody").first
        await expect(row).to_contain_text("dim")
        await expect(row).to_contain_text("33")
        async for _ in fleet.send("@lamps", "dim", level=34):
            pass
        await expect(table.locator("tbody tr", has_text="level=34").first).to_contain_text("@lamps")
    await page.get_by_label("Requester").fill("nobody")
    await expect(page.get_by_text("No such command.")).to_be_visible()
    await page.get_by_label("Requester").fill("somebody")
    await expect(table.locator("tbody tr", has_text="level=34").first).to_be_visible()
    await table.locator("tbody tr", has_text="level=33").first.get_by_role("link", name="dim").click()
    outcomes = page.get_by_role("table", name="Outcomes")
    await expect(outcomes.get_by_role("row", name="lamp-1")).to_contain_text("33")
    await expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    await page.go_back()
    await table.locator("tbody tr", has_text="level=34").first.get_by_role("link", name="dim").click()
    await expect(outcomes.get_by_role("row", name="lamp-2")).to_contain_text("34")
