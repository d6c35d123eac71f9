"""The page in a real browser, Debian's Chromium."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.processes import Standing
from tests.site import Site

OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    program = shutil.which("chromium")
    if program is None:
        assert not os.environ.get("CI"), "nothing may be skipped there"
        pytest.skip("Chromium is not installed: apt install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=OPTIONS.split())
        yield await browser.new_page()
        await browser.close()


async def test_page_draws_a_bar_for_each_word(standing: Standing, site: Site, page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(f"{standing.hub.url}/words")
    await page.get_by_label("Page").fill(site.add("/page", "<p>two one two &lt;b&gt;"))
    await page.get_by_role("button", name="Count").click()
    await expect(page.get_by_role("status")).to_have_text("4 words, 3 different", timeout=15_000)
    rows = page.locator("tbody tr")
    await expect(rows).to_have_text(["two2", "b1", "one1"])
    widths = [await rows.nth(number).locator("meter").evaluate("bar => bar.value / bar.max") for number in (0, 1)]
    assert widths == [1.0, 0.5]
    await page.get_by_label("Page").fill(site.add("/gone", status=410))
    await page.get_by_role("button", name="Count").click()
    await expect(page.get_by_role("status")).to_contain_text("answered 410")
    await expect(rows.first).to_be_hidden()
    assert not [each for each in complaints if "favicon" not in each]
