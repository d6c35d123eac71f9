"""An endpoint of outrider: devices with typed commands, and the connection and invoker that both sides use."""

from .address import Address
from .builtin import Stats, calculate, ping
from .connection import Connection, Message, Subscription, Will
from .device import Device
from .invoker import Invocation, Invoker, Reply, error_of
from .job import Job, RunningJob, Track
from .journal import Entry, Journal, Key, MemoryJournal, Stage

__all__ = [
    "Address",
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
]
