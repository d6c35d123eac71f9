"""The page in a real browser: it draws what the dashboards say, live, breaks no policy, and asks for a token."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Page, async_playwright, expect

from .conftest import StartHub, missing
from .processes import Hub, run, script

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A tab in which no script may fail, and no policy may be broken."""
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("chromium is not installed: apt install chromium fonts-dejavu-core")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = await browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        yield page
        await browser.close()
        assert faults == []


async def posted(hub: Hub, path: str, token: str = "", **parameters: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers) as client:
        (await client.post(path, params=parameters)).raise_for_status()


@pytest.mark.parametrize("storage", ["hub", "sqlite"])
async def test_charts_show_what_comes_while_one_looks(start_hub: StartHub, page: Page, storage: str) -> None:
    hub = start_hub(f"seen-{storage}", STORAGE=storage)
    uuid = str(uuid4())
    await posted(hub, "/initial", uuid=uuid, symbol="e")
    await page.goto(f"{hub.url}/vowels")
    await expect(page.get_by_role("status")).to_have_text("1 initial requests, 0 follow-ups")
    bar = page.locator("[data-letter=e]")
    await expect(bar).to_have_attribute("data-count", "1")
    await expect(bar).to_have_class("letter vowel")
    await expect(page.locator("[data-letter=x]")).to_have_attribute("data-count", "0")
    for symbol in "xxx":
        await posted(hub, "/initial", uuid=str(uuid4()), symbol=symbol)
    await posted(hub, "/followup", uuid=uuid)
    await expect(page.locator("[data-letter=x]")).to_have_attribute("data-count", "3")
    await expect(bar).to_have_attribute("data-followups", "1")
    await expect(page.locator("#rows tr")).to_have_count(2)
    heights = [float(await rect.get_attribute("height") or 0) for rect in await page.locator(".bar").all()]
    x, e = heights[ord("x") - ord("a")], heights[ord("e") - ord("a")]
    assert x == pytest.approx(3 * e)
    await expect(page.locator("#rate polyline")).to_have_count(1)
    await page.select_option("#span", "60")
    await expect(page.get_by_role("status")).to_have_text("4 initial requests, 1 follow-ups")


async def test_page_asks_for_a_token_where_the_hub_does(start_hub: StartHub, page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "guarded"
    code, token = run(folder, script("outrider"), "hub", "token", "add", "me", "--scope", "send")
    assert code == 0, token
    hub = start_hub("guarded", folder)
    await page.goto(f"{hub.url}/vowels")
    await page.get_by_label("This hub asks for a token").fill(token)
    await page.get_by_role("button").click()
    await expect(page.get_by_role("status")).to_have_text("0 initial requests, 0 follow-ups")
    await posted(hub, "/initial", token.strip(), uuid=str(uuid4()), symbol="o")
    await expect(page.locator("[data-letter=o]")).to_have_attribute("data-count", "1")
    await expect(page.locator("#asked")).to_be_hidden()


async def test_page_comes_with_a_policy_that_lets_no_inline_script_run(hub: Hub) -> None:
    async with httpx.AsyncClient(base_url=hub.url) as client:
        for path, kind in (("", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
            answer = await client.get(f"/vowels{path}")
            assert answer.headers["content-type"].startswith(kind)
            assert "script-src 'self';" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
