"""An endpoint of outrider: devices with typed commands, and the connection and invoker that both sides use."""

from .address import Address
from .builtin import RESERVED, Stats, calculate, ping
from .connection import Connection, Message, Subscription, Will
from .device import Device
from .invocation import Invocation, Reply
from .invoker import DEFAULT_WAIT, MIN_EXPIRY, Arguments, Invoker, error_of
from .job import Job, RunningJob, Track
from .journal import Entry, Journal, Key, MemoryJournal, Stage
from .repeats import PACE, Pace
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
    "Key",
    "MemoryJournal",
    "Message",
    "Pace",
    "Reply",
    "RunningJob",
    "Stage",
    "Stats",
    "Subscription",
    "Track",
    "Will",
    "calculate",
    "error_of",
    "ping",
    "run_in_daemon_thread",
]
