"""The parts of a hub that is open: what its API works with."""

from dataclasses import dataclass

from outrider.controller.fleet import Fleet

from .live import Live
from .metrics import Metrics
from .recorder import Recorder
from .services import Functions
from .store import Store
from .submissions import Submissions
from .tokens import Tokens
from .writer import Writer


@dataclass(frozen=True, slots=True)
class Parts:
    """What `hub` puts together. All of it is open as long as the hub is.

    :ivar functions: those of the plugins; None where there are no plugins.
    """

    fleet: Fleet
    store: Store
    writer: Writer
    recorder: Recorder
    live: Live
    submissions: Submissions
    tokens: Tokens
    metrics: Metrics
    functions: Functions | None = None
