"""A device's page: commands as forms, validation, progress, output, cancel, history, and what a hostile one says."""

from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.controller.hub.pages.conftest import Stage
from tests.controller.hub.pages.scenery import MARKUP

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def open_command(page: Page, stage: Stage, device: str, command: str) -> Locator:
    """Open a command's form on its device's page."""
    await page.goto(f"{stage.url}#/devices/{device}")
    details = page.locator("details.command", has=page.locator(".name", has_text=command))
    await details.locator("> summary").click()
    await expect(details.get_by_role("form", name=f"Send {command}")).to_be_visible()
    return details


async def test_device_shows_its_state_tags_versions_and_commands(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/devices/lamp-1")
    await expect(page.get_by_role("heading", name="lamp-1", level=1)).to_be_visible()
    facts = page.locator("dl.facts")
    for text in ("lamps", "room=kitchen", "fw=2.1", "outrider"):
        await expect(facts).to_contain_text(text)
    await expect(page.locator("details.command .name").first).to_have_text("calibrate")
    await expect(page.get_by_text("Set the brightness in percent and return it.")).to_be_visible()
    await facts.get_by_role("link", name="lamps").click()
    await expect(page.get_by_label("Target")).to_have_value("@lamps")


async def test_device_that_nobody_has_seen_is_said_to_be_unknown(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/devices/nobody")
    await expect(page.get_by_text("The hub has not seen this device.")).to_be_visible()


async def test_command_is_filled_in_sent_and_answered(page: Page, stage: Stage) -> None:
    details = await open_command(page, stage, "lamp-1", "dim")
    await expect(details.get_by_text("Brightness in percent.")).to_be_visible()
    await expect(details.get_by_text("0 to 100")).to_be_visible()
    await details.get_by_label("level").fill("40")
    await details.get_by_label("smooth").check()
    await details.get_by_role("button", name="Run dim").click()
    await expect(details.get_by_label("Value of dim")).to_have_text("-40")
    await expect(details.locator(".followed .status")).to_have_text("done")
    await expect(
        page.get_by_role("table", name="History of lamp-1").get_by_role("row", name="dim").first
    ).to_contain_text("level=40")


@pytest.mark.parametrize(
    ("typed", "said"),
    [("", "is missing"), ("101", "100"), ("-1", "0"), ("1.5", "whole number"), ("many", "not a number")],
)
async def test_argument_that_does_not_fit_is_refused_beside_its_field(
    page: Page, stage: Stage, typed: str, said: str
) -> None:
    details = await open_command(page, stage, "lamp-1", "dim")
    level = details.get_by_label("level")
    await level.fill(typed)
    await details.get_by_role("button", name="Run dim").click()
    await expect(details.locator(".field .fault")).to_contain_text(said)
    await expect(level).to_have_attribute("aria-invalid", "true")
    await expect(level).to_be_focused()
    await expect(details.locator(".followed")).to_have_count(0)
    await level.fill("7")
    await details.get_by_role("button", name="Run dim").click()
    await expect(details.get_by_label("Value of dim")).to_have_text("7")


async def test_every_kind_of_argument_arrives_as_it_was_given(page: Page, stage: Stage) -> None:
    details = await open_command(page, stage, "lamp-1", "paint")
    await details.get_by_label("mode").select_option(label="glossy")
    await details.get_by_role("button", name="Add to points").click()
    await details.get_by_label("x*").first.fill("1.5")
    await details.get_by_role("button", name="Add to points").click()
    await details.get_by_label("x*").nth(1).fill("2")
    await details.get_by_label("y").nth(1).fill("-3e2")
    await details.get_by_label("name", exact=True).fill("é<b>")
    await details.get_by_label("weights").fill('{"a": 1}')
    await details.get_by_role("button", name="Give origin").click()
    await details.get_by_label("x*").nth(2).fill("9")
    await details.get_by_role("button", name="Run paint").click()
    await expect(details.get_by_label("Value of paint")).to_have_text(
        "glossy [Point(x=1.5, y=0.0), Point(x=2.0, y=-300.0)] 'é<b>' {'a': 1} Point(x=9.0, y=0.0) None"
    )
    await details.get_by_role("button", name="Remove points 1").click()
    await expect(details.get_by_label("x*").first).to_have_value("2")
    await details.get_by_label("weights").fill('{"a":')
    await details.get_by_role("button", name="Run paint").click()
    await expect(details.locator(".field .fault")).to_have_text("weights is not JSON")


async def test_progress_and_output_come_live_and_a_cancel_ends_it(page: Page, stage: Stage, tmp_path: Path) -> None:
    details = await open_command(page, stage, "lamp-2", "calibrate")
    await details.get_by_label("folder").fill(str(tmp_path))
    await details.get_by_label("rounds").fill("4")
    await details.get_by_role("button", name="Run calibrate").click()
    output = details.get_by_role("log", name="Output of calibrate")
    await expect(output).to_contain_text("round 0 begins")
    jobs = page.locator("ul.jobs li")
    await expect(jobs).to_contain_text("calibrate")
    (tmp_path / "round-0").touch()
    await expect(output).to_contain_text("round 1 begins")
    await expect(details.get_by_label("Progress of calibrate")).to_have_attribute("value", "0.25")
    await details.get_by_role("button", name="Cancel").click()
    await expect(details.locator(".followed .status")).to_have_text("cancelled")
    await expect(details.get_by_role("button", name="Cancel")).to_be_hidden()
    await expect(page.get_by_text("Nothing runs.")).to_be_visible()


async def test_job_that_somebody_else_began_is_shown(page: Page, stage: Stage, tmp_path: Path) -> None:
    await page.goto(f"{stage.url}#/devices/lamp-1")
    await expect(page.get_by_text("Nothing runs.")).to_be_visible()
    async with stage.fleet() as fleet:
        dispatch = fleet.dispatch("lamp-1", "calibrate", {"folder": str(tmp_path), "rounds": 1})
        await expect(page.locator("ul.jobs li")).to_contain_text("by somebody")
        (tmp_path / "round-0").touch()
        async for _ in dispatch:
            pass
    await expect(page.get_by_text("Nothing runs.")).to_be_visible()
    row = page.get_by_role("table", name="History of lamp-1").get_by_role("row", name="somebody").first
    await expect(row).to_contain_text("done")


async def test_life_of_a_device_is_changed_by_buttons(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/devices/oven-1")
    state = page.locator("h1 + .status")
    await expect(state).to_have_text("ready")
    await page.get_by_role("button", name="Stop", exact=True).click()
    await expect(state).to_have_text("unready")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(state).to_have_text("ready")
    await page.get_by_role("button", name="Terminate").click()
    await expect(page.get_by_text("End it for good?")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Terminate")).to_be_visible()
    await expect(page.locator("ol.timeline li").first).to_contain_text("ready")


async def test_keyboard_alone_opens_a_form_and_sends_it(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/devices/lamp-1")
    summary = page.locator("details.command > summary", has_text="dim")
    await summary.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("form", name="Send dim")).to_be_visible()
    await page.keyboard.press("Tab")
    await page.keyboard.type("12")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Value of dim")).to_have_text("12")


async def test_markup_in_what_a_device_says_stays_text(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/devices")
    await expect(page.get_by_role("row", name="hostile")).to_contain_text(MARKUP[:20])
    details = await open_command(page, stage, "hostile", "deceive")
    await expect(page.locator("dl.facts")).to_contain_text(MARKUP)
    await expect(details.get_by_text(MARKUP).first).to_be_visible()
    await details.get_by_label("words").fill("a" * 60 + "!")  # its pattern would hold up the page for ever
    await expect(details.get_by_label("words")).to_have_value("a" * 60 + "!")
    await details.get_by_label("words").fill("aaa")
    await details.get_by_role("button", name="Run deceive").click()
    await expect(details.get_by_role("log")).to_contain_text(MARKUP)
    await expect(details.get_by_label("Value of deceive")).to_contain_text("onerror")
    refuse = await open_command(page, stage, "hostile", "refuse")
    await refuse.get_by_role("button", name="Run refuse").click()
    await expect(refuse.locator(".followed .fault")).to_contain_text(MARKUP)
    assert await page.evaluate("window.harmed") is None
    assert await page.locator("main img, main script").count() == 0
