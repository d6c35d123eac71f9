"""Bad networks for tests: a proxy between client and broker that loses, delays, repeats, cuts and keeps silent."""

from .background import BackgroundProxy, FaultProxies
from .commands import Command, CutNow, Door, HalfOpenNow, Heal, NewConnections, Release, Throttle
from .lines import ScriptSyntax, read_line, read_script
from .log import Action, Event, Log
from .packets import Direction, Kind, Packet
from .proxy import CannotListen, FaultProxy, NotSeen
from .rules import Cut, Delay, Drop, Duplicate, HalfOpen, Hold, InvalidFault, Match, Reorder, Rule, Rules
from .script import Due, Span, Step, play, timeline

__all__ = [
    "Action",
    "BackgroundProxy",
    "CannotListen",
    "Command",
    "Cut",
    "CutNow",
    "Delay",
    "Direction",
    "Door",
    "Drop",
    "Due",
    "Duplicate",
    "Event",
    "FaultProxies",
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
    "ScriptSyntax",
    "Span",
    "Step",
    "Throttle",
    "play",
    "read_line",
    "read_script",
    "timeline",
]
