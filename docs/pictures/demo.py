"""demo.svg: what `outrider demo` shows, run for real on a terminal. Made by `python -m docs.pictures.demo`."""

import asyncio
import sys
from pathlib import Path

from docs.pictures.screen import svg
from tests.processes import script
from tests.terminals import CTRL_C, open_terminal

PICTURE = Path(__file__).with_suffix(".svg")


async def main() -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OUTRIDER_NAME": "ann"}
    async with open_terminal(script("outrider"), "demo", env=environment, columns=112, lines=112) as terminal:
        await terminal.wait_for("Ctrl-C ends the devices, the hub and the broker", 60)
        picture = svg(terminal.screen, "outrider demo")
        terminal.type(CTRL_C)
        await terminal.wait()
    PICTURE.write_text(picture)


if __name__ == "__main__":
    asyncio.run(main())
