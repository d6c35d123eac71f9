"""`outrider faults`: a bad network between clients and a broker, by script and by typing, until Ctrl-C."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, cast

import typer
from rich.text import Text

from outrider.controller.faults import Event, FaultProxy, Rule, Step, play, read_line, read_script
from outrider.controller.faults.commands import check_visible
from outrider.controller.settings import load
from outrider.device import run_in_daemon_thread
from outrider.schema import LocalError

from .exits import run
from .options import BrokerOption
from .terminal import json_text, messages_console, printable, results_console

KEPT: Final = 100
"""Events that are kept; they have been shown."""

HELP: Final = """\
drop, delay 200ms, duplicate, hold, reorder   with  PUBACK  3 (so many)  50%  skip 2  to client|broker
                                              topic 'devices/+/cmd'  client lamp-*  contains TEXT  for 5s
duplicate … new    as another message         reorder … by 2    behind the next two
release            let go what is held
cut, cut fin       all connections; cut client lamp-1; cut PUBACK: at the next one; cut PUBLISH after
half-open          nothing passes any more; half-open to client; half-open PUBLISH
throttle 64kB/s    on each connection; throttle 1000 to broker
blackhole, unanswered, refuse                 what becomes of new connections
heal               end all of these
at 5s cut, every 3s..8s half-open for 2s      later, and again and again
status, help, quit"""

_SHOWN: Final = {
    "passed": "dim",
    "connected": "green",
    "resumed": "green",
    "ended": "dim",
    "opaque": "yellow",
    "absorbed": "dim",
}
"""Styles of what is no fault; a fault is red."""


class NoScript(LocalError):
    """The script's file cannot be read."""


def faults(
    script: Annotated[
        Path | None,
        typer.Argument(metavar="SCRIPT", help="A file of lines as 'at 10s cut'; - is standard input.", dir_okay=False),
    ] = None,
    broker: BrokerOption = None,
    listen: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Where clients connect to; 0 finds a free port.")
    ] = 0,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option(help="What chance decides follows from it.")] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what passes, too.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each event, and nothing else, on standard output.")
    ] = False,
) -> None:
    """Stand between clients and a broker, and lose, delay, repeat, cut and stall what passes, until Ctrl-C.

    Nothing is done to it until a script or a line that you type says so; help lists what there is. It works with any
    client and broker. Single packets are seen over mqtt:// and unix:// only.

    For example:

    outrider faults --broker mqtt://localhost

    drop PUBACK 3
    """
    settings = load(broker=broker, prefix=None, requester=None)
    from_input = script is not None and str(script) == "-"
    steps = read_script(_text(script)) if script is not None else ()
    shown = _Show(json=json, verbose=verbose)
    proxy = FaultProxy(settings.broker, port=listen, host=host, seed=seed, kept=KEPT, told=shown.event)
    for step in steps:
        check_visible(step.command, proxy.broker)
    run(_run(proxy, steps, seed, shown, typed=not from_input))


class _Show:
    """What people and programs see of a proxy."""

    def __init__(self, *, json: bool, verbose: bool) -> None:
        self._json = json
        self._verbose = verbose
        self._results = results_console()
        self._messages = messages_console()

    def listening(self, proxy: FaultProxy) -> None:
        """Say where clients connect to."""
        if self._json:
            self._line({"event": "listening", "address": proxy.address, "broker": str(proxy.broker)})
            return
        self._results.print(
            f"Between clients and the broker at {proxy.broker.place}, on {proxy.host} port {proxy.port}.\n\n"
            f"In other terminals:\n  export OUTRIDER_BROKER={proxy.address}\n\n"
            "Here: cut, half-open, drop PUBACK 3, delay 200ms, heal, status; help lists all. Ctrl-C ends it.",
            soft_wrap=True,
        )

    def event(self, event: Event) -> None:
        """Show an event, unless it is nothing but a packet that passes."""
        if event.action == "passed" and not self._verbose:
            return
        packet = event.packet
        if self._json:
            fields: dict[str, object] = {
                "event": event.action,
                "time": round(event.time, 4),
                "connection": event.connection,
                "client": event.client,
                "direction": event.direction,
                "packet": packet and packet.kind.name,
                "topic": packet and packet.topic,
                "packet_id": packet and packet.packet_id,
                "size": packet and len(packet.data),
                "dup": (packet and packet.dup) or None,
                "words": event.words,
            }
            self._line({name: value for name, value in fields.items() if value not in (None, "")})
            return
        line = Text(f"{event.time:9.3f}  ", style="dim")
        line.append(f"{event.action:<10} ", style=_SHOWN.get(event.action, "red"))
        line.append(printable(event.about))
        self._results.print(line, soft_wrap=True)

    def step(self, step: Step, undo: bool) -> None:
        """Show that a step was taken, or undone."""
        if self._json:
            self._line({"event": "undone" if undo else "step", "step": step.text})
        else:
            self._results.print(Text(f"{'undone' if undo else 'now'}: {printable(step.text)}", style="bold"))

    def status(self, proxy: FaultProxy) -> None:
        """Show what is in force, and what there was."""
        counts = {
            " ".join(word for word in key if word): count
            for key, count in sorted(proxy.log.counts.items())
            if key[0] != "passed"
        }
        rules = [{"rule": rule_text(rule), "hits": proxy.rules.hits[rule]} for rule in proxy.rules]
        passed = sum(count for key, count in proxy.log.counts.items() if key[0] == "passed")
        if self._json:
            rates = {way: proxy.rate(way) for way in ("to_broker", "to_client")}
            about = {"door": proxy.door, "clients": proxy.clients, "half_open": proxy.half_open_clients}
            self._line({"event": "status", **about, "rates": rates, "rules": rules, "passed": passed, "counts": counts})
            return
        lines = [f"new connections: {proxy.door}", f"clients: {printable(', '.join(proxy.clients)) or 'none'}"]
        if proxy.half_open_clients:
            lines.append(f"half-open: {printable(', '.join(proxy.half_open_clients))}")
        limits = [f"{rate:g} B/s {way.replace('_', ' ')}" for way in _WAYS if (rate := proxy.rate(way)) is not None]
        lines += [f"throttle: {', '.join(limits)}"] if limits else []
        lines += [f"rule: {printable(str(rule['rule']))} (acted on {rule['hits']})" for rule in rules]
        lines += [f"held: {proxy.held}"] if proxy.held else []
        lines.append(f"passed: {passed}" + "".join(f", {name}: {count}" for name, count in counts.items()))
        self._results.print("\n".join(lines), soft_wrap=True)

    def help(self) -> None:
        """Show what may be typed."""
        self._messages.print(HELP)

    def error(self, error: LocalError) -> None:
        """Show what is wrong with a line."""
        self._messages.print(Text.assemble(("error: ", "bold red"), printable(str(error), keep="\n")))

    def _line(self, fields: dict[str, object]) -> None:
        self._results.print(json_text(fields), soft_wrap=True)


_WAYS: Final = ("to_broker", "to_client")


def rule_text(rule: Rule) -> str:
    """A rule for people: its kind, and what of it is not as always."""
    words = [type(rule).__name__.lower()]
    for name in rule.__struct_fields__:
        value = getattr(rule, name)
        if value not in (None, b"", 0, 1.0, False):
            words.append(f"{name}={value.decode(errors='replace') if isinstance(value, bytes) else value}")
    return " ".join(words)


def _text(script: Path) -> str:
    """The script's text.

    :raises NoScript: it cannot be read.
    """
    try:
        return sys.stdin.read() if str(script) == "-" else script.read_text()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise NoScript(f"the script {script} cannot be read: {words}") from None


async def _run(proxy: FaultProxy, steps: Sequence[Step], seed: int, shown: _Show, *, typed: bool) -> None:
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_end.set)
    async with proxy, asyncio.TaskGroup() as tasks:
        shown.listening(proxy)
        playing = [tasks.create_task(_play(proxy, steps, seed, shown), name="script")]
        if typed and _may_read():
            reading = _Typed(proxy, shown, tasks, asked_to_end, seed)
            playing.append(tasks.create_task(reading.run(), name="typed lines"))
            await asked_to_end.wait()
            reading.end()
        else:
            await asked_to_end.wait()
        for task in playing:
            task.cancel()
    shown.status(proxy)


class _Typed:
    """Does what is typed on standard input."""

    def __init__(
        self, proxy: FaultProxy, shown: _Show, tasks: asyncio.TaskGroup, asked_to_end: asyncio.Event, seed: int
    ) -> None:
        self._proxy = proxy
        self._shown = shown
        self._tasks = tasks
        self._asked_to_end = asked_to_end
        self._seed = seed
        self._playing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Read until the input ends; the proxy goes on then."""
        # Unbuffered: the interpreter cannot end cleanly while a thread holds the lock of sys.stdin's buffer.
        lines = io.FileIO(sys.stdin.fileno(), closefd=False)
        while line := cast("bytes", await run_in_daemon_thread(lines.readline, "typed lines")):
            match line.decode(errors="replace").strip().lower():
                case "quit" | "exit":
                    self._asked_to_end.set()
                    return
                case "help" | "?":
                    self._shown.help()
                case "status":
                    self._shown.status(self._proxy)
                case _:
                    self._do(line.decode(errors="replace"))

    def end(self) -> None:
        """Let nothing more be done of what was typed."""
        for task in self._playing:
            task.cancel()

    def _do(self, line: str) -> None:
        try:
            step = read_line(line.rstrip("\n"))
            if step is not None:
                playing = self._tasks.create_task(
                    _play(self._proxy, (step,), self._seed, self._shown), name="typed line"
                )
                self._playing.add(playing)
                playing.add_done_callback(self._playing.discard)
        except LocalError as error:
            self._shown.error(error)


async def _play(proxy: FaultProxy, steps: Sequence[Step], seed: int, shown: _Show) -> None:
    try:
        await play(proxy, steps, seed=seed, told=shown.step)
    except LocalError as error:
        shown.error(error)


def _may_read() -> bool:
    """Whether lines can be typed: a program in the background of its terminal would be stopped at the first read."""
    try:
        return not os.isatty(sys.stdin.fileno()) or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # no standard input at all
        return False
