"""Who takes part in a soak, and where each keeps its files."""

from pathlib import Path
from typing import Final

DEVICES: Final = tuple(f"soak-{number:02}" for number in range(20))
GROUPS: Final = tuple(f"row-{number}" for number in range(4))
POOLS: Final = tuple(f"column-{number}" for number in range(5))
CONTROLLERS: Final = ("ada", "bob", "eve")


def groups_of(device: str) -> tuple[str, ...]:
    """The group of a device: four of five devices."""
    return (GROUPS[DEVICES.index(device) // 5],)


def pools_of(device: str) -> tuple[str, ...]:
    """The pool of a device: five of four devices."""
    return (POOLS[DEVICES.index(device) % 5],)


def executions_file(folder: Path) -> Path:
    """Where devices write down what they execute."""
    return folder / "executions.log"


def sent_file(folder: Path, controller: str) -> Path:
    """Where a controller writes down what it has sent."""
    return folder / f"{controller}.sent"


def outbox_file(folder: Path, controller: str) -> Path:
    """A controller's durable outbox."""
    return folder / f"{controller}.outbox"


def journal_file(folder: Path, device: str) -> Path:
    """A device's journal."""
    return folder / f"{device}.journal"
