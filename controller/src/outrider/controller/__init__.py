"""People's side of outrider: see a fleet of devices, and command it."""

from .dispatch import Dispatch, Outcome, value_of
from .fleet import Fleet
from .plan import Plan, Share
from .rollout import Rollout
from .roster import Roster
from .targets import Limit, Target, Targets, resolve

__all__ = [
    "Dispatch",
    "Fleet",
    "Limit",
    "Outcome",
    "Plan",
    "Rollout",
    "Roster",
    "Share",
    "Target",
    "Targets",
    "resolve",
    "value_of",
]
