"""People's side of outrider: see a fleet of devices, and command it."""

from outrider.device import value_of

from .dispatch import Dispatch, Outcome
from .fleet import Fleet
from .plan import Plan, Share
from .rollout import Rollout
from .roster import Roster
from .targets import Target, Targets, TargetSyntax, parse, resolve

__all__ = [
    "Dispatch",
    "Fleet",
    "Outcome",
    "Plan",
    "Rollout",
    "Roster",
    "Share",
    "Target",
    "TargetSyntax",
    "Targets",
    "parse",
    "resolve",
    "value_of",
]
