"""`outrider simulate`: a fleet of devices in one process, good ones and bad ones."""

import asyncio
import re
import resource
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Final

import typer
from msgspec import json as msgspec_json
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from outrider.controller.forget import forget
from outrider.controller.plan import Share
from outrider.controller.settings import load
from outrider.controller.simulator import (
    FLAP,
    LATENCY,
    Execution,
    InvalidPopulation,
    Population,
    Role,
    Simulation,
    Span,
)
from outrider.schema import LocalError

from .exits import run
from .options import BrokerOption, PrefixOption, parsed, seconds
from .output import json_text, messages_console, results_console

SPARE: Final = 100
"""Files open beside the devices' connections."""

REFRESH: Final = 0.25
"""Seconds between two looks at the statistics."""

_OFTEN: Final = re.compile(r"(?P<count>[\d.]+%?)(?:@(?P<span>.+))?")


class TooManyFiles(LocalError):
    """The system does not let one process have so many connections."""


def span(text: str) -> Span:
    """Read `10ms`, or `10ms..200ms`: a parser for options."""
    least, dots, most = text.partition("..")
    return Span(seconds(least), seconds(most)) if dots else Span(seconds(least), seconds(least))


def simulate(
    count: Annotated[int, typer.Argument(metavar="COUNT", min=1, help="How many devices.", show_default=False)],
    group: Annotated[list[str] | None, typer.Option(help="A group they are in.", show_default=False)] = None,
    pool: Annotated[list[str] | None, typer.Option(help="A pool they are in.", show_default=False)] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V[,V…]", help="A tag; of several values each device has one, in turn."),
    ] = None,
    name: Annotated[str, typer.Option(help="What their ids begin with.")] = "sim",
    latency: Annotated[
        Span | None,
        typer.Option(
            metavar="DURATION",
            parser=span,
            help="How long `work` takes: 50ms, or between 10ms..200ms. Without it 10ms..100ms.",
            show_default=False,
        ),
    ] = None,
    failure_rate: Annotated[
        Share | None,
        typer.Option(metavar="N|N%", parser=parsed(Share.parse), help="So many devices fail whatever they do."),
    ] = None,
    silent: Annotated[
        Share | None,
        typer.Option(metavar="N|N%", parser=parsed(Share.parse), help="So many are there and never answer."),
    ] = None,
    offline: Annotated[
        Share | None,
        typer.Option(metavar="N|N%", parser=parsed(Share.parse), help="So many were there, and are lost."),
    ] = None,
    flapping: Annotated[
        str | None,
        typer.Option(
            metavar="N|N%[@DURATION]",
            help="So many lose their connection again and again, and come back: 5%@2s..10s.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[
        float,
        typer.Option(metavar="RATE", min=0, help="Each device emits so many events a second.", show_default=False),
    ] = 0.0,
    unready: Annotated[bool, typer.Option("--unready", help="Begin unready, as devices do by default.")] = False,
    seed: Annotated[int, typer.Option(help="Which devices are bad, and how long each takes, follows from it.")] = 0,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Append each execution as a line of JSON.", show_default=False
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the devices' states on the broker at the end.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON when all are connected, and one at the end.")
    ] = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Run many devices in this process, over real connections, until Ctrl-C: to try out a fleet, or a script for one.

    Each has the commands work, echo, calculate and ping. Which devices are bad is chosen by the seed, and exactly so
    many as asked for. At the end their states are cleared from the broker.

    For example:

    outrider simulate 50 --group shop --tag fw=2.0,2.1 --failure-rate 10% --silent 2

    outrider send @shop work --batch 10% --abort-on-failure 20%
    """
    settings = load(broker=broker, prefix=prefix, requester=None)
    often, flap = _often(flapping)
    population = Population(
        count=count,
        name=name,
        groups=tuple(group or ()),
        pools=tuple(pool or ()),
        tags=dict(map(_tag, tag or ())),
        latency=latency or LATENCY,
        failing=failure_rate,
        silent=silent,
        flapping=often,
        offline=offline,
        flap=flap,
        events=events,
        ready=not unready,
        seed=seed,
    )
    _allow_files(count + SPARE)
    with _writing(log) as write:
        run(_Show(population, settings.broker, settings.prefix, write, json=json, keep=keep).run())


class _Show:
    """A simulation as it is shown."""

    def __init__(
        self,
        population: Population,
        broker: str,
        prefix: str,
        write: Callable[[Execution], None],
        *,
        json: bool,
        keep: bool,
    ) -> None:
        self._simulation = Simulation(population, broker, prefix=prefix, log=write)
        self._population = population
        self._json = json
        self._keep = keep
        self._results = results_console()
        self._messages = messages_console()
        self._rate = 0.0

    async def run(self) -> None:
        """Run until Ctrl-C, SIGTERM or the end of the terminal."""
        asked_to_end = asyncio.Event()
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, asked_to_end.set)
        simulation, began = self._simulation, loop.time()
        async with simulation:
            showing = asyncio.create_task(self._show(), name="statistics")
            ends = asyncio.create_task(asked_to_end.wait(), name="asked to end")
            there = asyncio.create_task(simulation.wait_connected(), name="all connected")
            await asyncio.wait((ends, there), return_when=asyncio.FIRST_COMPLETED)
            if there.done():
                self._connected(loop.time() - began)
            there.cancel()
            await ends
            showing.cancel()
            await asyncio.wait((showing,))
            await simulation.end()
            if not self._keep:
                await forget(simulation.fleet, simulation.roles, force=True)
        self._ended()

    def _connected(self, took: float) -> None:
        counts = {str(role): count for role, count in self._population.wanted.items() if count}
        if self._json:
            line = {"event": "connected", "devices": self._population.count, "seconds": round(took, 2), "roles": counts}
            self._results.print(json_text(line), soft_wrap=True)
            return
        roles = ", ".join(f"{count} {role}" for role, count in counts.items() if role != Role.GOOD)
        self._messages.print(
            f"{self._population.count} devices connected in {took:.1f} s{roles and f': {roles}'}; Ctrl-C ends them",
            highlight=False,
            soft_wrap=True,
        )

    def _ended(self) -> None:
        counts = dict(sorted(self._simulation.counts.items()))
        if self._json:
            line: dict[str, object] = {"event": "ended", "executions": sum(counts.values()), "outcomes": counts}
            if self._population.events:
                line["events"] = self._simulation.emitted
            self._results.print(json_text(line), soft_wrap=True)
            return
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        total = sum(counts.values())
        events = f"; {self._simulation.emitted} events" if self._population.events else ""
        self._messages.print(f"{total} executions{f': {words}' if words else ''}{events}", highlight=False)

    async def _show(self) -> None:
        """Show how far it is, on a terminal only."""
        if not self._messages.is_terminal or self._messages.is_dumb_terminal:
            return
        simulation, loop = self._simulation, asyncio.get_running_loop()
        looked, counted = loop.time(), 0
        with Live(console=self._messages, get_renderable=self._line, transient=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(REFRESH)
                now, total = loop.time(), sum(simulation.counts.values())
                # Smoothed over about two seconds.
                self._rate += ((total - counted) / (now - looked) - self._rate) * min(1.0, (now - looked) / 2)
                looked, counted = now, total
                live.refresh()

    def _line(self) -> Table:
        simulation = self._simulation
        line = Table.grid(padding=(0, 2, 0, 0))
        if simulation.connected < self._population.count:
            bar = ProgressBar(total=self._population.count, completed=simulation.connected, width=20)
            line.add_row("connecting", bar, f"{simulation.connected} of {self._population.count}")
            return line
        states = simulation.fleet.roster.states
        ready = sum(id in states and states[id].status in ("ready", "unready") for id in simulation.roles)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(simulation.counts.items())) or "none yet"
        line.add_row(
            Text(f"{ready} there"),
            Text(f"{simulation.at_work} at work"),
            Text(f"executions: {counts}"),
            Text(f"{self._rate:.0f}/s", style="dim"),
        )
        return line


def _often(flapping: str | None) -> tuple[Share | None, Span]:
    """How many flap, and how often."""
    if flapping is None:
        return None, FLAP
    match = _OFTEN.fullmatch(flapping)
    if match is None:
        raise typer.BadParameter(f"{flapping!r} is not well formed: write 5, 10%, or 5@2s..10s")
    return Share.parse(match["count"]), span(match["span"]) if match["span"] else FLAP


def _tag(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    if not key or not equals:
        raise InvalidPopulation(f"{text!r} is no tag: write room=kitchen, or fw=2.0,2.1")
    return key, values.split(",")


def _allow_files(needed: int) -> None:
    """Let this process have so many open files, as far as the system does.

    :raises TooManyFiles: it does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise TooManyFiles(
            f"{needed} open files are needed, one for each device, and {hard} are the most that this system allows: "
            f"raise it with ulimit -Hn {needed} (as root), or simulate fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextmanager
def _writing(path: Path | None) -> Generator[Callable[[Execution], None]]:
    """What writes executions into a file, a line each, at once."""
    if path is None:
        yield lambda execution: None
        return
    try:
        file: IO[bytes] = path.open("ab", buffering=0)
    except OSError as error:
        raise InvalidPopulation(f"the log {path} cannot be written: {error.strerror}") from None
    with file:
        yield lambda execution: _append(file, execution)


def _append(file: IO[bytes], execution: Execution) -> None:
    file.write(msgspec_json.encode(execution) + b"\n")
