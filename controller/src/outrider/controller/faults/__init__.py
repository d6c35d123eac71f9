"""Bad networks for tests: a proxy between client and broker that loses, delays, repeats, cuts and keeps silent."""

from .commands import Command, CutNow, Door, HalfOpenNow, Heal, NewConnections, Release, Throttle
from .log import Action, Event, Log
from .packets import Direction, Kind, Packet
from .proxy import CannotListen, FaultProxy, NotSeen
from .rules import Cut, Delay, Drop, Duplicate, HalfOpen, Hold, InvalidFault, Match, Reorder, Rule, Rules

__all__ = [
    "Action",
    "CannotListen",
    "Command",
    "Cut",
    "CutNow",
    "Delay",
    "Direction",
    "Door",
    "Drop",
    "Duplicate",
    "Event",
    "FaultProxy",
    "HalfOpen",
    "HalfOpenNow",
    "Heal",
    "Hold",
    "InvalidFault",
    "Kind",
    "Log",
    "Match",
    "NewConnections",
    "NotSeen",
    "Packet",
    "Release",
    "Reorder",
    "Rule",
    "Rules",
    "Throttle",
]
