"""page-*.png: the hub's web page in a browser. Made by `python -m docs.pictures.page`."""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from msgspec import Raw
from playwright.async_api import Browser, Page, async_playwright, expect

from docs.pictures.watch import like, machine, serving, stand
from outrider.controller.broker import BrokerKind, start_broker
from outrider.controller.hub.hub import Hub, Settings
from outrider.device import Connection, Device
from outrider.device.address import Address
from outrider.device.scripts.capability import Scripts
from outrider.schema import Encoding, Event, Topics, encode

FOLDER: Final = Path(__file__).parent
ARGUMENTS: Final = ("--no-sandbox", "--disable-gpu", "--hide-scrollbars")
PRESSES: Final = 16
SCRIPT: Final = """import sys

for number in range(1, int(sys.argv[1]) + 1):
    print(f"{number} squared is {number ** 2}")
print("that was all", file=sys.stderr)
"""


async def tell(address: str, now: float) -> None:
    """What kiosks told in the last minutes, and then some of it once more, as it comes."""
    chance = random.Random(5)
    topics = Topics()
    async with Connection(Address.parse(address), client_id="facts", receive=lambda batch: None) as connection:
        await connection.wait_connected()
        for number in range(900):
            key = chance.choices(("ticket", "coffee", "water"), (5, 3, 1))[0]
            at = now - 600 * chance.random() ** 1.4
            device = f"kiosk-{chance.randint(1, 400):04}"
            bought = Event(id=f"b{number}", device=device, name="sold", key=key, subject=f"s{number}", time=at)
            paid = Event(
                id=f"p{number}", device=device, name="paid", subject=f"s{number}", time=at + 2, data=Raw(b"{}")
            )
            for event in (bought, paid) if chance.random() < 0.8 else (bought,):
                await connection.publish(topics.event(device, event.name), encode(event, Encoding.JSON))


@asynccontextmanager
async def looking(browser: Browser, scheme: Literal["light", "dark"], width: int, height: int) -> AsyncGenerator[Page]:
    """A tab of this size."""
    context = await browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, device_scale_factor=1, locale="en-GB"
    )
    page = await context.new_page()
    yield page
    await context.close()


async def shoot(page: Page, name: str) -> None:
    """Take the picture, without a blinking cursor."""
    await page.screenshot(path=FOLDER / f"page-{name}.png", animations="disabled", caret="hide")


async def open_command(page: Page, url: str, device: str, command: str) -> None:
    """Open a device's page, and a command's form in it."""
    await page.goto(f"{url}/#/devices/{device}")
    await page.locator("details.command > summary", has_text=command).click()


async def show(browser: Browser, url: str) -> None:
    """Go through the views."""
    async with looking(browser, "light", 1200, 760) as page:
        await page.goto(f"{url}/#/send?target=@bench")
        await page.get_by_label("Command").select_option("update")
        await page.get_by_label("version").fill("2.2.0")
        await page.get_by_label("seconds", exact=True).fill("4")
        await page.get_by_label("as a rollout, in batches").check()
        await page.get_by_label("Batches", exact=True).fill("1,25%")
        await shoot(page, "send")
        await page.get_by_role("button", name=f"Send to {PRESSES} devices").click()
        stages = page.get_by_role("list", name="Batches").get_by_role("listitem")
        await expect(stages.nth(1)).to_contain_text("running", timeout=15_000)
        await expect(page.get_by_role("table", name="Outcomes").get_by_text("checking").first).to_be_visible()
        await shoot(page, "rollout")
    async with looking(browser, "light", 1200, 760) as page:
        await page.goto(f"{url}/#/devices")
        await expect(page.locator("tbody tr[data-row]").nth(8)).to_be_visible()
        await shoot(page, "devices")
    async with looking(browser, "dark", 1200, 760) as page:
        await open_command(page, url, "lamp-1", "calibrate")
        await page.get_by_label("rounds").fill("20")
        await page.get_by_role("button", name="Run calibrate").click()
        await expect(page.get_by_text("round 5 of 20").first).to_be_visible(timeout=15_000)
        await shoot(page, "device-dark")
        await page.goto(f"{url}/#/audit")
        await expect(page.get_by_role("row", name="calibrate").first).to_be_visible()
        await shoot(page, "audit-dark")
    async with looking(browser, "light", 1200, 860) as page:
        await page.goto(f"{url}/#/scripts")
        await page.get_by_label("Script", exact=True).fill(SCRIPT)
        await page.get_by_label("Arguments").fill("3")
        await page.get_by_role("button", name="Run on one member").click()
        await expect(page.locator(".runs summary")).to_contain_text("exit code 0", timeout=15_000)
        await shoot(page, "scripts")
    async with looking(browser, "light", 1200, 760) as page:
        await page.goto(f"{url}/#/events?name=sold")
        await expect(page.get_by_role("row", name="ticket").first).to_be_visible()
        await shoot(page, "events")
    async with looking(browser, "light", 390, 760) as page:
        await page.goto(f"{url}/#/devices?target=room=kitchen or site=north")
        await expect(page.locator("tbody tr[data-row]").nth(3)).to_be_visible()
        await shoot(page, "phone")


def allow_scripts(device: Device, folder: Path) -> None:
    """Let a device run scripts."""
    folder.chmod(0o755)  # where this is root, scripts are run by another user
    Scripts(folder=folder / "scripts").include_in(device)


async def main() -> None:
    """Play a fleet and take the pictures."""
    devices = [
        machine("lamp-1", "kitchen", room="kitchen", fw="2.1"),
        machine("lamp-2", "kitchen", room="kitchen", fw="2.1"),
        machine("lamp-10", "hall", initial="unready", room="hall", fw="2.0"),
        *(machine(f"press-{number:02}", "bench", room="lab", axes=3) for number in range(1, PRESSES + 1)),
        machine("runner-1", "hall", room="hall"),
    ]
    chance = random.Random(3)
    states = [
        like(f"kiosk-{number:04}", chance.choices(("ready", "lost"), (30, 1))[0], site="north")
        for number in range(1, 401)
    ]
    with tempfile.TemporaryDirectory() as name:
        async with start_broker(kind=BrokerKind.MOSQUITTO) as broker, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            await stand(broker.address, states)
            database, outbox = f"sqlite:///{name}/hub.sqlite", Path(name) / "outbox.sqlite"
            settings = Settings(broker=broker.address, requester="hub", database=database, outbox=outbox)
            allow_scripts(devices[-1], Path(name))
            async with serving(broker.address, devices), Hub(settings) as hub:
                await tell(broker.address, time.time())
                await show(browser, hub.url)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
