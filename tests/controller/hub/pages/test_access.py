"""Who may see the page and how it looks to them: signing in, dark mode, a phone, and what is served."""

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from outrider.controller.hub.hub import Hub
from tests.controller.hub.pages.conftest import Stage, settings
from tests.controller.hub.pages.test_records import tell

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWS = ("devices", "devices/lamp-1", "devices/hostile", "send?target=all&command=dim", "rollouts", "events", "audit")
