"""A hub with real devices on a real broker, and a browser that looks at its page."""

import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from outrider.controller import Fleet
from outrider.controller.broker import start_broker
from outrider.controller.hub.hub import Hub, Settings
from outrider.controller.hub.pages.serve import VENDOR
from tests.controller.conftest import Setting, until_ready
from tests.processes import Processes, script

DEVICES = {"lamp-1": "lamp_1", "lamp-2": "lamp_2", "oven-1": "oven", "hostile": "hostile"}
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 10_000.0
"""Milliseconds that the browser waits for what a test expects."""

REPOSITORY = Path(__file__).parents[4]


@dataclass(frozen=True)
class Stage:
    """What is looked at: a hub, and the broker and devices behind it."""

    hub: Hub
    broker: str
    folder: Path

    @property
    def url(self) -> str:
        """The page's address, to which a view's is added."""
        return f"{self.hub.url}/"

    def fleet(self) -> Fleet:
        """The same devices, seen and commanded by somebody else."""
        return Fleet(self.broker, requester="somebody")


def chromium() -> str:
    """Return where the browser is, or skip."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed: apt install chromium fonts-dejavu-core")
    return found


def settings(broker: str, folder: Path, **more: object) -> Settings:
    """A hub of one's own on a broker."""
    given = {"requester": "hub", "database": f"sqlite:///{folder}/hub.sqlite", "outbox": folder / "outbox.sqlite"}
    return Settings(broker=broker, **{**given, **more})  # type: ignore[arg-type]  # the keys are those of Settings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One for all tests: they leave it as they found it."""
    async with staged(tmp_path_factory.mktemp("hub"), DEVICES) as stage:
        yield stage


@asynccontextmanager
async def staged(folder: Path, devices: Mapping[str, str]) -> AsyncGenerator[Stage]:
    """A hub, a broker, and devices of the scenery by their ids."""
    chromium()
    if not VENDOR.exists():
        pytest.skip("the page's libraries are missing: make assets")
    processes = Processes(folder)
    try:
        async with start_broker() as broker:
            for id, name in devices.items():
                place = f"tests.controller.hub.pages.scenery:{name}"
                state = {"XDG_STATE_HOME": str(folder / id)}
                words = (script("outrider-device"), "run", place, "--broker", broker.address)
                processes(*words, env=state, cwd=REPOSITORY)
            await until_ready(Setting(broker.address, "", processes), list(devices))
            async with Hub(settings(broker.address, folder)) as hub:
                yield Stage(hub, broker.address, folder)
    finally:
        processes.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    program = chromium()  # before anything of Playwright's starts, which may be as little at home here
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A tab in which nothing may go wrong: no script may fail, and no policy may be broken."""
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    assert faults == []
