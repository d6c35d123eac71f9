"""repl.svg, repl-help.svg: the real REPL on terminals, with devices. Made by `python -m docs.pictures.repl`."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from docs.pictures.screen import svg
from docs.pictures.watch import machine, send, serving
from outrider.controller import Fleet
from outrider.controller.broker import start_broker
from tests.processes import script
from tests.terminals import ENTER, TAB, Terminal, open_terminal

FOLDER: Final = Path(__file__).parent

Play = Callable[[Terminal, Fleet], Awaitable[None]]


async def main() -> None:
    """Play the scenes and write the pictures."""
    await _picture("repl.svg", _work, columns=104, lines=33)
    await _picture("repl-help.svg", _help, columns=104, lines=21)


async def _picture(name: str, play: Play, *, columns: int, lines: int) -> None:
    devices = [
        machine("lamp-1", "kitchen", initial="unready", room="kitchen", fw="2.1"),
        machine("lamp-2", "kitchen", room="kitchen", fw="2.0"),
        machine("lamp-10", "hall", room="hall", fw="2.10"),
        machine("press-1", "bench", room="lab", axes=3),
    ]
    with tempfile.TemporaryDirectory() as directory:
        async with start_broker() as broker, serving(broker.address, devices) as ann:
            environment = {
                "OUTRIDER_BROKER": broker.address,
                "OUTRIDER_NAME": "lab-pc",
                "XDG_STATE_HOME": directory,
                "XDG_CONFIG_HOME": directory,
            }
            async with open_terminal(
                script("outrider"), "repl", env=environment, columns=columns, lines=lines
            ) as terminal:
                await terminal.wait_for("4 devices at")
                await play(terminal, ann)
                (FOLDER / name).write_text(svg(terminal.screen, "outrider repl"))


async def _work(terminal: Terminal, ann: Fleet) -> None:
    """Commands of several kinds, several at a time."""
    await send(ann, "press-1", "update", "2.2.0", 60)
    await _enter(terminal, "use lamp-1", r"lamp-1 \[unready\]>$")
    await _enter(terminal, "dim 40", r"^\[1\] .*not-ready")
    await _enter(terminal, "start", r"^\[2\] .*done")
    await _enter(terminal, "calibrate(rounds=40)", r"^\[3\] .*%")
    await _enter(terminal, "dim 140", "^error")
    await _enter(terminal, "use room in (kitchen, hall) and fw<2.10", r"… \[2 of 2 ready\]>$")
    await _enter(terminal, "dim 40", r"^\[4\] 2 targets: 2 done")
    await _enter(terminal, "send @kitchen - lamp-1 update 2.2.0", r"^\[5\] .*%")
    await _enter(terminal, "jobs", r"^\w+ +lamp-2 +update")
    await _enter(terminal, "cancel 3", r"^\[3\] .*cancelled")
    await _enter(terminal, "update 2.2.0 seconds=30", r"^\[6\] .*%")
    await terminal.wait_for_line(r".*> ?")
    terminal.type("calibrate 20 ")
    await terminal.wait_for("^pace  number, default 0.5")
    await terminal.wait_for(r"^\[6\] .* 1\d%")


async def _help(terminal: Terminal, ann: Fleet) -> None:
    """A line that is being typed."""
    await _enter(terminal, "send press-1 update 2.2.0", r"^\[1\] .*%")
    await _enter(terminal, "use @kitchen", r"@kitchen \[1 of 2 ready\]>$")
    await _enter(terminal, "dim 10", r"^\[2\] 2 targets: 1 done, 1 rejected")
    await terminal.wait_for_line(r".*> ?")
    terminal.type("send room in (kitchen, hall) and ")
    await terminal.wait_for(r"^send TARGET COMMAND")
    terminal.type(TAB)
    await terminal.wait_for(r"is:unready +1 device")
    await terminal.wait_for(r"^\[1\] .* 3\d%", 30)


async def _enter(terminal: Terminal, text: str, then: str) -> None:
    await terminal.wait_for_line(r".*> ?")
    terminal.type(text + ENTER)
    await terminal.wait_for(then)


if __name__ == "__main__":
    asyncio.run(main())
