"""repl.svg: the real REPL on a terminal, with a broker and devices. Made by `python -m docs.pictures.repl`."""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from docs.pictures.screen import svg
from outrider.controller.broker import start_broker
from tests.processes import Processes, script
from tests.terminals import ENTER, TAB, Terminal, open_terminal

PICTURE: Final = Path(__file__).with_name("repl.svg")


async def main() -> None:
    """Play the scene and write the picture."""
    with tempfile.TemporaryDirectory() as directory:
        processes = Processes(Path(directory))
        try:
            async with start_broker() as broker:
                run = (script("outrider-device"), "run", "--broker", broker.address, "--group", "kitchen")
                lamps = [processes(*run, "--id", id, *more) for id, *more in (("lamp-1",), ("lamp-2", "--ready"))]
                for lamp in lamps:
                    await lamp.wait_for("is connected", errors=True)
                environment = {"OUTRIDER_BROKER": broker.address, "XDG_STATE_HOME": directory}
                async with open_terminal(
                    script("outrider"), "repl", env=environment, columns=104, lines=33
                ) as terminal:
                    await _play(terminal)
                    PICTURE.write_text(svg(terminal.screen, "outrider repl"))
        finally:
            processes.close()


async def _play(terminal: Terminal) -> None:
    await terminal.wait_for("2 devices at")
    await _enter(terminal, "devices", "^lamp-2 +ready")
    await _enter(terminal, "use lamp-1", r"lamp-1 \[unready\]>$")
    await _enter(terminal, "ping", r"^\[1\] .*not-ready")
    await _enter(terminal, "start", r"^\[2\] .*done")
    await _enter(terminal, 'calculate 12 "slow"', r"^\[3\] .*%")
    await _enter(terminal, 'calculate(1, "quick, and a call")', r"^\[4\] .*%")
    await _enter(terminal, 'calculate fast "oops"', "^error")
    await terminal.wait_for(r"^\[4\] .*done")
    await _enter(terminal, "use @kitchen", r"@kitchen \[2 of 2 ready\]>$")
    await _enter(terminal, "ping", r"^\[5\] 2 targets: 2 done")
    await _enter(terminal, 'calculate 6 "good night"', r"^\[6\] .*%")
    terminal.type("calculate ")
    await terminal.wait_for_line(r".*> calculate\b.*")
    terminal.type(TAB)
    await terminal.wait_for("x= +number")
    await terminal.wait_for(r"^\[6\] .* [2-5]\d%")


async def _enter(terminal: Terminal, text: str, then: str) -> None:
    await terminal.wait_for_line(r".*> ?")
    terminal.type(text + ENTER)
    await terminal.wait_for(then)


if __name__ == "__main__":
    asyncio.run(main())
