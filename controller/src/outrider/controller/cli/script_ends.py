"""How a script ended on a device: in words, counted, and as an index has it."""

from collections.abc import Mapping
from typing import Final

from rich.text import Text

from outrider.controller.scripts import answer, killed
from outrider.device import Reply
from outrider.device.scripts.contract import Limits, ScriptResult, Stream
from outrider.schema import Result, Status

from .output import duration, printable, reply_line

LONGEST: Final = 40
"""Characters of what a device says that killed a script."""


def ending(result: Result, limits: Limits) -> Text | None:
    """How a script ended on a device, in a line, as `lamp-1  exited 3  (0.2 s)`."""
    said = answer(result)
    if said is None and result.status is not Status.DONE:
        return reply_line(Reply(result.device, result), show_device=True)
    line = Text.assemble((f"{printable(result.device)}  ", "bold"))
    if said is None:
        return line.append("its answer is not that of a script", style="red")
    if said.killed_by is not None:
        line.append(f"killed: {printable(killed(said.killed_by[:LONGEST], limits))}", style="red")
    else:
        line.append(f"exited {said.exit_code}", style="green" if said.exit_code == 0 else "red")
    return line.append(f"  ({duration(said.duration)})", style="dim")


def how_it_ended(result: Result) -> str | None:
    """As `exited 3` or `killed (memory)`; None where the script did not end."""
    said = answer(result)
    if said is None:
        return None
    return f"exited {said.exit_code}" if said.killed_by is None else f"killed ({printable(said.killed_by[:LONGEST])})"


def endings_text(counts: Mapping[str, int]) -> Text:
    """How many scripts ended how, behind a summary, as `; 2 exited 0, 1 exited 3`."""
    parts = [f"{count} {words}" for words, count in sorted(counts.items())]
    return Text(f"; {', '.join(parts)}" if parts else "")


def outputs(said: ScriptResult | None) -> list[tuple[Stream, str]]:
    """Both outputs, as far as the result has them; nothing where the script did not end."""
    return [] if said is None else [("stdout", said.stdout), ("stderr", said.stderr)]


def entry(result: Result) -> dict[str, object]:
    """What an index has of an outcome."""
    found: dict[str, object] = {"id": result.id, "status": result.status}
    if (said := answer(result)) is not None:
        found |= {
            "exit_code": said.exit_code,
            "killed_by": said.killed_by,
            "duration": said.duration,
            "peak_memory": said.peak_memory,
        }
    if result.error is not None:
        found["error"] = {"code": result.error.code, "message": result.error.message}
    return found
