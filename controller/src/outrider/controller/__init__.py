"""People's side of outrider: see a fleet of devices, and command it."""

from .dispatch import Dispatch, value_of
from .fleet import Fleet
from .roster import Roster
from .targets import Targets, resolve

__all__ = ["Dispatch", "Fleet", "Roster", "Targets", "resolve", "value_of"]
