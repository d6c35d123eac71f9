"""Commands to a target: whom it means, outcomes as they come, and rollouts with their stages and an end to them."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.controller.hub.pages.conftest import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def choose(page: Page, stage: Stage, target: str, command: str) -> None:
    await page.goto(f"{stage.url}#/send")
    await page.get_by_label("Target").fill(target)
    await page.get_by_label("Command").select_option(command)


async def test_preview_says_whom_a_target_means(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/send")
    await page.get_by_label("Target").fill("@lamps or oven-*")
    await expect(page.locator("#meant")).to_have_text("3 devices: 3 ready")
    await expect(page.locator(".preview li")).to_have_count(3)
    await page.get_by_label("Target").fill("no-such-*")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.locator(".preview li")).to_have_count(0)


async def test_command_that_not_all_can_do_is_said_before(page: Page, stage: Stage) -> None:
    await choose(page, stage, "@lamps or oven-*", "dim")
    await expect(page.get_by_text("1 device of these cannot do it")).to_be_visible()


async def test_outcomes_of_a_target_arrive_and_add_up(page: Page, stage: Stage, tmp_path: Path) -> None:
    await choose(page, stage, "@lamps", "calibrate")
    await page.get_by_label("folder").fill(str(tmp_path))
    await page.get_by_label("rounds").fill("2")
    await page.get_by_role("button", name="Send to 2 devices").click()
    outcomes = page.get_by_role("table", name="Outcomes")
    await expect(outcomes.get_by_text("running")).to_have_count(2)
    (tmp_path / "round-0").touch()
    await expect(outcomes.get_by_text("50%")).to_have_count(2)
    await outcomes.get_by_role("button", name="lamp-1").click()
    await expect(page.get_by_role("log", name="Output of lamp-1")).to_contain_text("round 0 begins")
    (tmp_path / "round-1").touch()
    await expect(outcomes.get_by_text("2 rounds")).to_have_count(2)
    await expect(page.get_by_role("status").filter(has_text="ended")).to_have_text("2 of 2 devices ended: 2 done")
    address = page.url
    await page.goto("about:blank")
    await page.goto(address)
    await expect(outcomes.get_by_text("2 rounds")).to_have_count(2)
    await outcomes.get_by_role("button", name="lamp-2").click()
    await expect(page.get_by_role("log", name="Output of lamp-2")).to_contain_text("round 1 begins")


async def test_failures_say_why_and_can_be_shown_alone(page: Page, stage: Stage) -> None:
    await choose(page, stage, "@lamps", "falter")
    await page.get_by_role("button", name="Send to 2 devices").click()
    outcomes = page.get_by_role("table", name="Outcomes")
    await expect(outcomes.get_by_role("row", name="lamp-2")).to_contain_text("the bulb is loose")
    await page.get_by_role("button", name="failed").click()
    await expect(outcomes.locator("tr[data-row]")).to_have_count(1)


async def test_command_to_many_is_cancelled(page: Page, stage: Stage, tmp_path: Path) -> None:
    await choose(page, stage, "@lamps", "calibrate")
    await page.get_by_label("folder").fill(str(tmp_path))
    await page.get_by_role("button", name="Send to 2 devices").click()
    await expect(page.get_by_role("table", name="Outcomes").get_by_text("running")).to_have_count(2)
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await page.get_by_role("button", name="Yes").click()
    await expect(page.get_by_role("table", name="Outcomes").locator(".status", has_text="cancelled")).to_have_count(2)
    await expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()


async def begin_rollout(page: Page, stage: Stage, folder: Path) -> None:
    await choose(page, stage, "@lamps", "calibrate")
    await page.get_by_label("folder").fill(str(folder))
    await page.get_by_label("rounds").fill("1")
    await page.get_by_label("as a rollout, in batches").check()
    await page.get_by_label("Batches", exact=True).fill("1")
    await page.get_by_role("button", name="Send to 2 devices").click()


async def test_option_that_is_no_number_is_said_and_nothing_is_sent(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/send?target=lamp-1&command=ping")
    await page.get_by_label("as a rollout, in batches").check()
    await page.get_by_label("Pause, seconds").fill("1 h")
    await page.get_by_role("button", name="Send to 1 device").click()
    await expect(page.get_by_role("alert")).to_contain_text("“Pause” takes a number of seconds, and “1 h” is none")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Send a command")


async def test_rollout_goes_from_stage_to_stage(page: Page, stage: Stage, tmp_path: Path) -> None:
    await begin_rollout(page, stage, tmp_path)
    stages = page.get_by_role("list", name="Batches").get_by_role("listitem")
    await expect(stages).to_have_count(2)
    await expect(stages.nth(0)).to_contain_text("running")
    await expect(stages.nth(1)).to_contain_text("waiting")
    (tmp_path / "round-0").touch()
    await expect(stages.nth(1)).to_contain_text("done")
    await expect(page.get_by_role("status").filter(has_text="ended")).to_have_text("2 of 2 devices ended: 2 done")


async def test_rollout_is_aborted_and_the_list_says_so(page: Page, stage: Stage, tmp_path: Path) -> None:
    await begin_rollout(page, stage, tmp_path)
    await expect(page.get_by_role("list", name="Batches").get_by_role("listitem").nth(0)).to_contain_text("running")
    await page.get_by_role("link", name="Rollouts").first.click()
    await page.get_by_role("button", name="Abort").first.click()
    await page.get_by_role("button", name="Yes").click()
    newest = page.get_by_role("article").first
    await expect(newest).to_contain_text("1 of 2 devices addressed")
    await expect(newest.get_by_role("button", name="Abort")).to_be_hidden()
    await newest.get_by_role("link").first.click()
    outcomes = page.get_by_role("table", name="Outcomes")
    await expect(outcomes.locator(".status", has_text="cancelled")).to_have_count(2)
