"""`python -m tests.faults.soak`: commands and kills, and the account of them, as a table and in JSON."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from msgspec import json
from rich.console import Console
from rich.table import Table

from .account import Account
from .cast import MOSQUITTO
from .run import Figures, Plan, soak


def table(plan: Plan, account: Account, figures: Figures) -> Table:
    """The account for people."""
    shown = Table(title=f"Soak, seed {plan.seed}", title_justify="left")
    shown.add_column("what")
    shown.add_column("figure", justify="right")
    rows: dict[str, object] = {
        "commands": account.commands.total(),
        **{f"  to a {name}": account.commands[name] for name in ("single", "group", "pool")},
        "final statuses, one for each device asked": account.statuses.total() - account.statuses["none"],
        **{f"  {status}": count for status, count in sorted(account.statuses.items()) if status != "none"},
        "executions": account.executions,
        "  idempotent ones run again after a kill": account.repeated,
        "forgotten ones that had run": len(account.untold),
        **{f"kills of {name}": count for name, count in figures.kills.items()},
        "duration": f"{figures.seconds:.0f} s",
        "without a final status": len(account.open),
        "executed twice, though not idempotent": len(account.twice),
        "wrong results": len(account.wrong),
        "processes that ended by themselves": len(figures.failures),
    }
    for what, figure in rows.items():
        shown.add_row(what, f"{figure:,}" if isinstance(figure, int) else str(figure))
    return shown


def _end(number: int, frame: FrameType | None) -> None:
    """End all processes as well."""
    sys.exit(128 + number)


def main() -> None:
    """Exit code 1 where a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description="Kill things, and count.")
    parser.add_argument("--commands", type=int, default=5000, help="commands in all (5000)")
    parser.add_argument("--kills", type=int, default=10, help="kills of the broker, of devices, of controllers (10)")
    parser.add_argument("--rate", type=float, default=60.0, help="commands a second at most (60)")
    parser.add_argument("--seed", type=int, default=1, help="of commands and kills (1)")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds it may take (3600)")
    parser.add_argument("--folder", type=Path, help="an empty folder for all files; else one that is deleted")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    console = Console()
    signal.signal(signal.SIGTERM, _end)
    if MOSQUITTO is None:
        sys.exit("Mosquitto is not installed: apt install mosquitto")
    plan = Plan(options.commands, options.kills, options.rate, options.seed, options.limit)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        account, figures = soak(folder, plan, say=console.print)
    console.print(table(plan, account, figures))
    for words in (*account.open, *account.twice, *account.wrong, *figures.failures)[:50]:
        console.print(words, style="red", markup=False)
    if options.json:
        written = {"plan": plan, "figures": figures, "account": account}
        options.json.write_bytes(json.format(json.encode(written), indent=2) + b"\n")
    sys.exit(0 if account.kept and not figures.failures else 1)


if __name__ == "__main__":
    main()
