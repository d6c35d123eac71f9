"""How soon the hub's page shows what a device says, with 10,000 devices in its table: python -m benchmarks.page

A device's state is published over and over; the clock runs from just before that until the browser has painted the row
that shows it. So broker, recorder, database, HTTP stream and page are all in it. Measured with a fleet that is quiet,
and with one of which some others change all the time. Hub, broker and browser are processes of their own.
"""

import argparse
import asyncio
import re
import shutil
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final

from playwright.async_api import Page, async_playwright
from rich.console import Console
from rich.table import Table

from outrider.controller.broker import BrokerKind, start_broker
from outrider.device import Address, Connection
from outrider.schema import Encoding, State, Topics, encode

from .children import child

DEVICES: Final = 10_000
GOAL: Final = 0.1
"""Seconds in which an update is to be shown."""

BUSY: Final = 200
"""State changes of other devices a second, in the busy fleet."""

TOPICS: Final = Topics()
ARGUMENTS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")

WATCH: Final = """() => {
  const seen = new Set(), drawn = new Map();
  const entry = (number) => {
    if (!drawn.has(number)) {
      let tell;
      const promise = new Promise((resolve) => { tell = resolve; });
      drawn.set(number, { promise, tell });
    }
    return drawn.get(number);
  };
  window.drawnAt = (number) => entry(number).promise;
  const look = () => {
    const text = document.querySelector("tbody tr[data-row='0'] td.middle")?.textContent ?? "";
    const number = Number(/round=(\\d+)/.exec(text)?.[1]);
    if (!number || seen.has(number)) return;
    seen.add(number);
    // A task after the frame's callbacks: by then the frame has been drawn.
    const tell = () => entry(number).tell((performance.timeOrigin + performance.now()) / 1000);
    requestAnimationFrame(() => setTimeout(tell));
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
"""Notes when the first row with a number in its tags has been drawn."""


def state(number: int, session: int, **tags: int) -> State:
    """What a device says of itself."""
    since = time.time()
    return State(
        device=f"sim-{number:05}",
        status="ready",
        session=session,
        since=since,
        groups=["bench"],
        tags={"rack": number % 40, **tags},
    )


async def publish(connection: Connection, states: list[State]) -> None:
    """Publish states, and wait for the broker's word."""
    await asyncio.gather(
        *(connection.publish(TOPICS.state(each.device), encode(each, Encoding.JSON), retain=True) for each in states)
    )


async def change_others(connection: Connection) -> None:
    """Let other devices change, one after the other, at an even pace."""
    began, number = time.monotonic(), 0
    while True:
        number += 1
        await publish(connection, [state(1 + number % (DEVICES - 1), 2 + number)])
        await asyncio.sleep(max(0.0, began + number / BUSY - time.monotonic()))


async def measure(page: Page, connection: Connection, rounds: int, first: int) -> list[float]:
    """Seconds from a message to the row that shows it, one after the other."""
    took: list[float] = []
    for number in range(first, first + rounds):
        sent = time.time()
        await publish(connection, [state(0, 1_000_000 + number, round=number)])
        async with asyncio.timeout(10):
            took.append(await page.evaluate("number => window.drawnAt(number)", number) - sent)
        await asyncio.sleep(0.02 * (number % 7))  # not in step with anything
    return took


@asynccontextmanager
async def hub(broker: str, folder: Path) -> AsyncGenerator[str]:
    """A hub of its own, and its address."""
    script = str(Path(sys.executable).with_name("outrider"))
    words = (script, "hub", "--broker", broker, "--http", "127.0.0.1:0", "--db", f"sqlite:///{folder}/hub.sqlite")
    async with child(*words) as output:
        said = ""
        async with asyncio.timeout(60):
            while (found := re.search(r"http://\S+", said)) is None:
                said += (await output.readline()).decode()
        yield found[0]


async def run(rounds: int) -> dict[str, list[float]]:
    """Measure both fleets."""
    figures: dict[str, list[float]] = {}
    with TemporaryDirectory() as name:
        async with (
            start_broker(kind=BrokerKind.MOSQUITTO) as broker,
            Connection(Address.parse(broker.address), client_id="fleet", receive=lambda batch: None) as connection,
            async_playwright() as playwright,
        ):
            await connection.wait_connected()
            everybody = [state(number, 1) for number in range(DEVICES)]
            for at in range(0, DEVICES, 1000):
                await publish(connection, everybody[at : at + 1000])
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            async with hub(broker.address, Path(name)) as url:
                page = await browser.new_page(viewport={"width": 1280, "height": 800})
                await page.goto(f"{url}/#/devices")
                await page.get_by_text(f"{DEVICES:,} devices").wait_for(timeout=60_000)
                await page.evaluate(WATCH)
                await measure(page, connection, 10, 1)  # to warm up
                figures["nobody else changes"] = await measure(page, connection, rounds, 100)
                others = asyncio.create_task(change_others(connection), name="others")
                figures[f"{BUSY} others change a second"] = await measure(page, connection, rounds, 100_000)
                others.cancel()
            await browser.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description="How soon the page shows a change.")
    parser.add_argument("--rounds", type=int, default=200, help="changes that are timed, of each fleet (200)")
    options = parser.parse_args()
    console = Console()
    if shutil.which("chromium") is None:
        console.print("[yellow]The page was not measured:[/] chromium is not installed (apt install chromium)")
        return
    console.print(f"Timing {options.rounds} changes of a device among {DEVICES:,}.")
    figures = asyncio.run(run(options.rounds))
    shown = Table(title="From a state's message to the row that shows it, milliseconds", title_justify="left")
    for heading in ("fleet", "median", "95 of 100 within", "longest", "goal", "met"):
        shown.add_column(heading, justify="left" if heading == "fleet" else "right")
    for name, took in figures.items():
        most = quantiles(took, n=20)[-1]
        met = "[green]yes[/]" if most <= GOAL else "[red]no[/]"
        shown.add_row(
            name, *(f"{1000 * each:.0f}" for each in (median(took), most, max(took))), f"≤ {1000 * GOAL:.0f}", met
        )
    console.print(shown)


if __name__ == "__main__":
    main()
