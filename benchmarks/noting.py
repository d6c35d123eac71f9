"""The device of `memory`: one journaled command that does nothing.

It takes clocks to be right within 5 s, so that its journal keeps a command for 35 s and not for a minute: then what
bounds the rate is not the 100,000 commands that a journal keeps.
"""

from outrider.device import Device

device = Device("memory-1", initial="ready", clock_tolerance=5.0)


@device.command
async def note(number: int) -> int:
    """Return the number."""
    return number
