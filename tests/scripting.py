"""Devices that allow scripts, for tests."""

import os
from typing import Final

_SANDBOX = os.environ.get("OUTRIDER_TEST_SANDBOX")

ALLOWED: Final = ("--allow-scripts", *(("--script-sandbox", _SANDBOX) if _SANDBOX else ()))
"""What a device is started with: the sandbox is the one that OUTRIDER_TEST_SANDBOX names, else the best one here."""
