"""Scripts from the page: pasted or chosen, sent to a pool or to many, and watched to their end."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.controller.hub.pages.conftest import Stage, staged
from tests.controller.hub.pages.scenery import MARKUP

RUNNERS = {"runner-1": "runner_1", "runner-2": "runner_2"}

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scripts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A hub of its own, with two devices that run scripts."""
    async with staged(tmp_path_factory.mktemp("scripts"), RUNNERS) as stage:
        yield stage


async def paste(page: Page, stage: Stage, code: str, target: str = "") -> None:
    await page.goto("about:blank")
    await page.goto(f"{stage.url}#/scripts")
    await page.get_by_label("Script", exact=True).fill(code)
    if target:
        await page.get_by_label("Target").fill(target)


async def test_pasted_script_runs_on_the_pool_and_is_watched(page: Page, scripts: Stage, tmp_path: Path) -> None:
    go = tmp_path / "go"
    code = (
        "import pathlib, sys, time\nprint('begun', *sys.argv[1:])\nsys.stderr.write('careful\\n')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\nprint(input())"
    )
    await paste(page, scripts, code)
    await expect(page.locator("#meant")).to_have_text("One ready member of the pool scripts gets it.")
    await page.get_by_label("Arguments").fill("a b\nc")
    await page.get_by_text("Limits and input").click()
    await page.get_by_label("Standard input").fill("typed")
    await page.get_by_label("Memory, MiB").fill("128")
    await page.get_by_role("button", name="Run on one member").click()
    log = page.get_by_role("log")
    await expect(log).to_contain_text("begun a b c")
    await expect(log.locator(".stdout").first).to_contain_text("begun")
    await expect(log.locator(".stderr")).to_have_text("careful\n")
    await expect(page.locator(".runs .status")).to_have_text("running")
    go.touch()
    await expect(log).to_contain_text("typed")
    await expect(page.locator(".runs summary")).to_contain_text("exit code 0")
    address = page.url
    assert "id=" in address
    await page.goto("about:blank")
    await page.goto(address)
    await expect(log).to_contain_text("typed")


async def test_script_that_fails_is_told_from_one_that_does_not(page: Page, scripts: Stage) -> None:
    await paste(page, scripts, "import sys; sys.exit('no such luck')", "@runners")
    await page.get_by_role("button", name="Run on 2 devices").click()
    runs = page.locator(".runs details")
    await expect(runs).to_have_count(2)
    await expect(page.locator(".runs .status", has_text="crashed")).to_have_count(2)
    await expect(runs.nth(0)).to_contain_text("exit code 1")
    await expect(page.get_by_role("log", name="Output of runner-2")).to_contain_text("no such luck")


async def test_files_are_chosen_and_one_of_them_is_run(page: Page, scripts: Stage, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('the wrong one')")
    (tmp_path / "other.py").write_text("import main; print('and the right one')")
    await page.goto(f"{scripts.url}#/scripts")
    await page.get_by_label("Files", exact=True).set_input_files([tmp_path / "main.py", tmp_path / "other.py"])
    await page.get_by_label("Which is run").select_option("other.py")
    await page.get_by_role("group", name="Files").get_by_role("button", name="other.py").click()
    await expect(page.get_by_label("Script", exact=True)).to_have_value(re.compile("the right one"))
    await page.get_by_role("button", name="Run on one member").click()
    await expect(page.get_by_role("log")).to_have_text("the wrong one\nand the right one\n")


async def test_script_is_cancelled_by_keyboard(page: Page, scripts: Stage) -> None:
    await paste(page, scripts, "import time; print('begun'); time.sleep(60)")
    await page.get_by_role("button", name="Run on one member").press("Enter")
    await expect(page.get_by_role("log")).to_have_text("begun\n")
    await page.get_by_role("button", name="Cancel", exact=True).press("Enter")
    await page.keyboard.press("Enter")
    await expect(page.locator(".runs .status")).to_have_text("cancelled")
    await expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    await expect(page.get_by_role("log")).to_have_text("begun\n")


async def test_what_a_script_writes_stays_text(page: Page, scripts: Stage) -> None:
    await paste(page, scripts, f"print({MARKUP!r})")
    await page.get_by_label("Name").fill(f"{MARKUP}.py")
    await page.get_by_role("button", name="Run on one member").click()
    await expect(page.locator(".runs summary")).to_contain_text("failed")  # a name with a slash is no file's
    await page.get_by_label("Name").fill("a.py")
    await page.get_by_role("button", name="Run on one member").click()
    await expect(page.get_by_role("log")).to_have_text(f"{MARKUP}\n")
    assert await page.evaluate("window.harmed") is None


@pytest.mark.parametrize(
    ("label", "text", "words"),
    [("Script", " ", "There is no script"), ("Memory, MiB", "much", "“Memory” takes a number above 0")],
)
async def test_what_cannot_be_is_said_and_nothing_is_sent(
    page: Page, scripts: Stage, label: str, text: str, words: str
) -> None:
    await paste(page, scripts, "print(1)")
    await page.get_by_text("Limits and input").click()
    await page.get_by_label(label, exact=True).fill(text)
    await page.get_by_role("button", name="Run on one member").click()
    await expect(page.get_by_role("alert")).to_contain_text(words)
    await expect(page.locator(".runs")).to_have_count(0)


async def test_file_that_is_no_text_is_said(page: Page, scripts: Stage, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xff\xfe")
    await page.goto(f"{scripts.url}#/scripts")
    await page.get_by_label("Files", exact=True).set_input_files([tmp_path / "a.py"])
    await expect(page.get_by_role("alert")).to_contain_text("a.py is not UTF-8")


async def test_empty_pool_says_how_to_fill_it(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/scripts")
    await expect(page.get_by_role("alert")).to_contain_text("start one with outrider-device run --allow-scripts")
    await expect(page.get_by_role("button", name="Run on")).to_be_disabled()


async def test_narrow_screen_has_no_sideways_scrolling(page: Page, scripts: Stage) -> None:
    await page.set_viewport_size({"width": 340, "height": 700})
    await paste(page, scripts, f"print('{'x' * 400}')")
    await page.get_by_role("button", name="Run on one member").click()
    await expect(page.get_by_role("log")).to_contain_text("xxx")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
