"""Births and wills of one device in any order: in the end everybody believes the device."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import pytest

from outrider.controller import Roster
from outrider.device import Device, ManualClock, MemoryJournal, Message, presence
from outrider.device.presence import Presence
from outrider.schema import About, Encoding, State, Topics, decode_state, encode

RACES: Final = 10_000
