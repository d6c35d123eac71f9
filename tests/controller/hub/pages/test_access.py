"""Who may see the page and how it looks to them: signing in, light and dark, a phone, names for screen readers."""

from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from outrider.controller.hub.hub import Hub
from outrider.controller.hub.tokens import Scope, make_token
from tests.controller.hub.pages.conftest import Stage, settings
from tests.controller.hub.pages.test_records import tell

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWS = ("devices", "devices/lamp-1", "devices/hostile", "send?target=all&command=dim", "rollouts", "events", "audit")

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""

CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.disabled) continue;
    const both = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (ratio < 4.5) faint.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...faint];
}"""
"""Text whose contrast is below 4.5 : 1, as WCAG 2.2 wants it (1.4.3)."""

NAMELESS = """() => [...document.querySelectorAll("input, select, textarea, button, a, progress, [role]")]
  .filter((element) => element.checkVisibility() && !element.labels?.length && !element.getAttribute("aria-label")
    && !element.getAttribute("aria-labelledby") && !element.textContent.trim())
  .map((element) => element.outerHTML)"""


async def test_hub_with_tokens_asks_for_one_and_shows_what_it_allows(page: Page, stage: Stage, tmp_path: Path) -> None:
    async with Hub(settings(stage.broker, tmp_path, requester="guarded")) as hub:
        token = make_token(hub.parts.store, "reader", [Scope.READ])
        await page.goto(f"{hub.url}/#/devices/lamp-1")
        await expect(page.get_by_label("Token")).to_be_focused()
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        await page.get_by_label("Token").fill(token)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="lamp-1", level=1)).to_be_visible()
        await expect(page.get_by_text("reader")).to_be_visible()
        await expect(page.get_by_role("button", name="Terminate")).to_be_hidden()
        await page.reload()
        await expect(page.get_by_role("heading", name="lamp-1", level=1)).to_be_visible()
        assert await page.evaluate("localStorage.length") == 0
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Token")).to_be_visible()
        assert await page.evaluate("sessionStorage.length") == 0


async def test_admin_is_offered_everything_and_an_auditor_no_end_of_what_others_do(
    page: Page, stage: Stage, tmp_path: Path
) -> None:
    async with Hub(settings(stage.broker, tmp_path, requester="guarded")) as hub:
        admin = make_token(hub.parts.store, "root", [Scope.ADMIN])
        auditor = make_token(hub.parts.store, "auditor", [Scope.SEND, Scope.AUDIT])
        await page.goto(f"{hub.url}/#/devices/lamp-1")
        await page.get_by_label("Token").fill(admin)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Terminate")).to_be_visible()
        async with httpx.AsyncClient(base_url=hub.url, headers={"Authorization": f"Bearer {admin}"}) as client:
            body = {"target": "lamp-1", "command": "calibrate", "args": [str(tmp_path)]}
            id = (await client.post("/api/v1/commands", json=body)).json()["id"]
            await page.goto(f"{hub.url}/#/commands/{id}")
            await expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
            await page.get_by_role("button", name="Sign out").click()
            await page.get_by_label("Token").fill(auditor)
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("by root")).to_be_visible()
            await expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
            await client.delete(f"/api/v1/commands/{id}")
            await expect(page.get_by_role("status").filter(has_text="1 of 1")).to_contain_text("1 cancelled")


@pytest.mark.parametrize("view", VIEWS)
async def test_no_view_is_wider_than_a_phone(page: Page, stage: Stage, view: str) -> None:
    await tell(stage, "looked", {"key": "door"})
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.goto(f"{stage.url}#/{view}")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
async def test_text_has_contrast_in_light_and_dark(browser: Browser, stage: Stage, view: str, scheme: str) -> None:
    context = await browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    page = await context.new_page()
    await page.goto(f"{stage.url}#/{view}")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 18, 24)") is (scheme == "dark")
    faint = await page.evaluate(CONTRAST)
    await context.close()
    assert faint == []


async def test_each_input_and_button_has_a_name(page: Page, stage: Stage) -> None:
    for view in VIEWS:
        await page.goto(f"{stage.url}#/{view}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        nameless = await page.evaluate(NAMELESS)
        assert nameless == [], view


async def test_tab_that_nobody_looks_at_gives_its_connection_back(page: Page, stage: Stage) -> None:
    await page.clock.install()
    await page.goto(f"{stage.url}#/devices")
    await expect(page.locator(".connection")).to_have_text("live")
    await page.evaluate(HIDE, True)
    await page.clock.fast_forward(31_000)
    await expect(page.locator(".connection")).to_have_text("paused")
    await page.evaluate(HIDE, False)
    await expect(page.locator(".connection")).to_have_text("live")


async def test_view_that_does_not_exist_leads_back(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/nothing")
    await page.get_by_role("link", name="To the devices").click()
    await expect(page.get_by_role("table", name="Devices")).to_be_visible()


async def test_command_that_nobody_knows_is_said(page: Page, stage: Stage) -> None:
    await page.goto(f"{stage.url}#/commands/0123456789abcdef")
    await expect(page.get_by_role("alert")).to_contain_text("0123456789abcdef")
