"""An endpoint of outrider: devices with typed commands, and the connection and invoker that both sides use."""

from .address import Address
from .builtin import RESERVED, Stats, calculate, common_commands, ping
from .clock import ManualClock
from .connection import Connection, Message, Subscription, Will
from .device import Device
from .invocation import Invocation, Reply
from .invoker import DEFAULT_WAIT, MIN_EXPIRY, Arguments, Invoker
from .job import Job, RunningJob, Track
from .journal import Entry, Journal, KeptEvent, Key, Stage, Usage
from .journal_file import JournalFile
from .memory_journal import MemoryJournal
from .outcome import error_of, value_of
from .repeats import PACE, Pace
from .sqlite_journal import SqliteJournal
from .threads import run_in_daemon_thread

__all__ = [
    "DEFAULT_WAIT",
    "MIN_EXPIRY",
    "PACE",
    "RESERVED",
    "Address",
    "Arguments",
    "Connection",
    "Device",
    "Entry",
    "Invocation",
    "Invoker",
    "Job",
    "Journal",
    "JournalFile",
    "KeptEvent",
    "Key",
    "ManualClock",
    "MemoryJournal",
    "Message",
    "Pace",
    "Reply",
    "RunningJob",
    "SqliteJournal",
    "Stage",
    "Stats",
    "Subscription",
    "Track",
    "Usage",
    "Will",
    "calculate",
    "common_commands",
    "error_of",
    "ping",
    "run_in_daemon_thread",
    "value_of",
]
