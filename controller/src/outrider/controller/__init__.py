"""People's side of outrider: see a fleet of devices, and command it."""

from .fleet import Dispatch, Fleet, value_of
from .roster import Roster
from .targets import Targets, resolve

__all__ = ["Dispatch", "Fleet", "Roster", "Targets", "resolve", "value_of"]
