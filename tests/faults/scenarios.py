"""The table of all scenarios: what the page shows, and `test_scenarios.py` plays."""

from collections.abc import Mapping
from typing import Final

from tests.faults.limits import CLOCKS, DISKS, LIMITS
from tests.faults.lives import BROKERS, DEVICES
from tests.faults.network import CONNECTIONS, PACKETS
from tests.faults.scenario import Scenario

SCENARIOS: Final[Mapping[str, tuple[Scenario, ...]]] = {
    "Packets": PACKETS,
    "Connections": CONNECTIONS,
    "Devices": DEVICES,
    "Brokers": BROKERS,
    "Clocks": CLOCKS,
    "Disks": DISKS,
    "Limits": LIMITS,
}
"""By what is at fault."""
