"""A device that tells events all the time, from a thread: `outrider-device run tests.system.teller:teller`.

Each id that `emit` has returned becomes a line of the file that TELLER_FILE names; it ends with TELLER_COUNT of them.
"""

import os
import threading
import time
from pathlib import Path

from outrider.device import Device
from outrider.schema import EventsFull, NotServed

teller = Device("teller", initial="ready", max_events=500)


def tell(path: Path, count: int) -> None:
    """Tell as many events as are missing, one after the other."""
    with path.open("a") as file:
        number = len(path.read_text().splitlines())
        while number < count:
            try:
                id = teller.emit_blocking("told", key="e", number=number)
            except (NotServed, EventsFull):
                time.sleep(0.01)
            else:
                print(id, file=file, flush=True)
                number += 1


if path := os.environ.get("TELLER_FILE"):
    count = int(os.environ["TELLER_COUNT"])
    threading.Thread(target=tell, args=(Path(path), count), name="tell", daemon=True).start()
