"""`outrider demo`: a broker and three devices as real processes, commanded as anybody would.

Each line that begins with `$` is run as it stands, by the same programs that a user runs; what follows it is what they
print. The demo itself only starts processes, waits for states with the public API, and checks exit codes.
"""

import asyncio
import contextlib
import math
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from outrider.controller import Fleet, guard
from outrider.controller.broker import BrokerKind, BrokerProcess, start_broker
from outrider.schema import LocalError, OutriderError

from .exits import end_once_at_lost_output
from .hub import has_hub
from .terminal import messages_console, results_console

STEP_LIMIT: Final = 30.0
"""Seconds for each step."""

CALCULATION: Final = (3, 25)
"""Seconds that the devices calculate for, at least and at most."""

POLL: Final = 0.02
"""Seconds between two looks at something that this process is not told of."""

PROGRAMS: Final = {"outrider": "outrider.controller.cli.main", "outrider-device": "outrider.device.main"}
"""The console scripts, run as modules of this very Python: the scripts' folder need not be in PATH."""

DEVICES: Final = {
    "lamp-1": "outrider-device run --id lamp-1 --group kitchen --tag room=kitchen",
    "lamp-2": "outrider-device run --id lamp-2 --group kitchen --tag room=kitchen",
    "lamp-3": "outrider-device run --id lamp-3 --tag room=hall",
}


HUB: Final = "outrider hub --http 127.0.0.1:0"


class DemoFailed(LocalError):
    """A step did not do what it shows."""


def demo(
    kind: Annotated[
        BrokerKind, typer.Option(help="auto is Mosquitto where it is installed, else the embedded broker.")
    ] = BrokerKind.AUTO,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive/--no-interactive",
            help="Leave the fleet running until Ctrl-C; only with a terminal on standard input.",
        ),
    ] = True,
) -> None:
    """Start a broker and three devices, show them at work, and leave them to you."""
    output = results_console()
    try:
        interrupted = asyncio.run(_run(kind, interactive and sys.stdin.isatty(), output))
    except OutriderError as error:
        messages_console().print(f"error: {error}")
        raise typer.Exit(1) from None
    if interrupted:
        messages_console().print("\nInterrupted; everything that the demo started has ended.")
        raise typer.Exit(128 + interrupted)
    output.print("\nEverything that the demo started has ended.")


async def _run(kind: BrokerKind, interactive: bool, output: Console) -> int:
    """Show the steps, then wait where there is somebody to wait for.

    :returns: the signal that ended it before all was shown, else 0.
    """
    end_once_at_lost_output()
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()

    def ask(number: int) -> None:
        if not asked.done():
            asked.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask, number)
    shown = asyncio.Event()
    playing = asyncio.create_task(_play(kind, interactive, output, shown, asked), name="demo")
    await asyncio.wait((playing, asked), return_when=asyncio.FIRST_COMPLETED)
    if shown.is_set() or playing.done():
        await playing
        return 0
    playing.cancel()
    await asyncio.wait((playing,))
    return asked.result()


async def _play(
    kind: BrokerKind, interactive: bool, output: Console, shown: asyncio.Event, asked: asyncio.Future[int]
) -> None:
    async with _stage(kind, output) as stage:
        await _show(stage)
        shown.set()
        if not interactive:
            return
        output.print(stage.next_lines(), soft_wrap=True)
        ended = asyncio.create_task(stage.broker.wait(), name="broker ends")
        await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise DemoFailed(f"the broker ended by itself with exit code {ended.result()}")
        ended.cancel()


async def _show(stage: "_Stage") -> None:
    broker = stage.broker
    hub = has_hub()
    stage.say(f"A broker, as `outrider broker` starts it: {broker.kind}, on {broker.host} port {broker.ports['5']}.")
    stage.type(f"export OUTRIDER_BROKER={broker.address}")

    if hub:
        stage.say("A hub: it remembers all that follows, answers over HTTP, and shows the fleet in a browser.")
        await stage.start_hub()

    stage.say("Three devices, each a process of its own. They begin unready.")
    await stage.start_devices(*DEVICES)
    await stage.run("outrider devices")

    stage.say("start makes a device ready for data commands; all is everyone.")
    await stage.run("outrider send all start")
    ping = await stage.run("outrider send lamp-1 ping")

    stage.say("Everybody calculates for some seconds and tells its progress.")
    said = await _ping_meanwhile(stage, ping)
    stage.say("Meanwhile, in another terminal, a ping was answered at once.")
    stage.type("outrider send lamp-2 ping")
    stage.print(said)

    stage.say("The kitchen stops. An unready device refuses data commands, and says why: exit code 1.")
    await stage.run("outrider send @kitchen stop")
    await stage.run("outrider send lamp-1 ping", exit_code=1)

    stage.say("terminate ends a device for good.")
    await stage.run("outrider send lamp-2 terminate")
    await stage.ended("lamp-2", "terminated", exit_code=0)

    stage.say("A crash cannot say goodbye. The broker publishes the device's last will: lost.")
    stage.type(f"kill -9 {stage.pid('lamp-3')}")
    os.kill(stage.pid("lamp-3"), signal.SIGKILL)
    await stage.ended("lamp-3", "lost", exit_code=128 + signal.SIGKILL)
    await stage.run("outrider devices")

    stage.say("Both come back: lamp-3 as it was, lamp-2, which had ended, anew. Everybody starts.")
    await stage.start_devices("lamp-2", "lamp-3")
    await stage.run("outrider send all start")


async def _ping_meanwhile(stage: "_Stage", ping: float) -> str:
    """Calculate for long enough to ping a device in the middle of it, and return what the ping printed."""
    line = ""
    for seconds in _calculations(ping):
        if line:
            stage.say("This machine was too busy to send something meanwhile. Once more, for longer.")
        line = f"outrider send all calculate {seconds} 'hello fleet'"
        said = await stage.run_meanwhile(line, "lamp-1", "outrider send lamp-2 ping")
        if said is not None:
            return said
    raise DemoFailed(f"{line} was over before what should have been done meanwhile")


@contextlib.asynccontextmanager
async def _stage(kind: BrokerKind, output: Console) -> AsyncGenerator["_Stage"]:
    """What the demo plays on: when the block ends, so does everything that was started in it."""
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(start_broker(kind=kind))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outrider-demo-")))
        stage = _Stage(broker, logs, output)
        stack.push_async_callback(stage.end_devices)
        with _limit(f"no view of the fleet at {broker.address}"):
            async with asyncio.timeout(STEP_LIMIT):
                await stack.enter_async_context(stage.fleet)
        yield stage


class _Stage:
    def __init__(self, broker: BrokerProcess, logs: Path, output: Console) -> None:
        self.broker = broker
        self.fleet = Fleet(broker.address)
        self._logs = logs
        self._output = output
        # An empty prefix, in case that the user's configuration has one: the devices would not know of it.
        # The journals are the demo's own: another lamp-1 may run on this machine.
        self._environment = {
            **os.environ,
            "OUTRIDER_BROKER": broker.address,
            "OUTRIDER_PREFIX": "",
            "XDG_STATE_HOME": str(logs),
        }
        self._guards: dict[str, asyncio.subprocess.Process] = {}
        self._pids: dict[str, int] = {}
        self._hub: asyncio.subprocess.Process | None = None
        self.hub_url = ""

    def say(self, words: str) -> None:
        self._output.print()
        self._output.print(Text(f"# {words}", style="cyan"))

    def print(self, text: str) -> None:
        """What a program printed elsewhere."""
        self._output.print(text, soft_wrap=True)

    def type(self, line: str) -> None:
        """Show a line as it would be typed."""
        self._output.print(Text.assemble(("$ ", "dim"), (line, "bold")), soft_wrap=True)

    def pid(self, device: str) -> int:
        return self._pids[device]

    async def run(self, line: str, *, exit_code: int = 0) -> float:
        """Show a command, run it with our own standard output, and check how it ends; return the seconds it took."""
        self.type(line)
        began = monotonic()
        async with self._process(line) as process:
            await self._finished(process, line, exit_code)
        return monotonic() - began

    async def run_meanwhile(self, line: str, device: str, aside: str) -> str | None:
        """`run` a command, and while it keeps the device busy another one, as in another terminal.

        :returns: what the other one printed; None where the first was over before it.
        """
        self.type(line)
        async with self._process(line) as process:
            await self._until_busy(device, process)
            async with self._process(aside, stdout=asyncio.subprocess.PIPE) as other:
                await self._finished(other, aside, 0)
                meanwhile = process.returncode is None
                assert other.stdout is not None
                said = (await other.stdout.read()).decode().rstrip("\n")
            await self._finished(process, line, 0)
        return said if meanwhile else None

    async def start_devices(self, *devices: str) -> None:
        """Show and run the command of each device, and wait until all have connected."""
        for device in devices:
            self.type(f"{DEVICES[device]} &")
            with self._log(device).open("wb") as log:
                self._guards[device] = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", guard.__file__),
                    *_program(DEVICES[device]),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,  # Ctrl-C is for the demo, which ends its devices
                )
        for device in devices:
            started = self._guards[device].stdout
            assert started is not None
            self._pids[device] = int(await started.readline())
            await self._until_status(device, "unready", "ready")

    async def start_hub(self) -> None:
        """Show and run the hub, and wait until it says where it is."""
        self.type(f"{HUB} &")
        log = self._logs / "hub.log"
        with log.open("wb") as file:
            self._hub = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", guard.__file__),
                *_program(HUB),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                env=self._environment,
                start_new_session=True,
            )
        with _limit("the hub did not start"):
            async with asyncio.timeout(STEP_LIMIT):
                while (found := re.search(r"http://\S+", log.read_text(errors="replace"))) is None:
                    if self._hub.returncode is not None:
                        raise DemoFailed(f"the hub ended; it said:\n{log.read_text(errors='replace').strip()}")
                    await asyncio.sleep(POLL)
        self.hub_url = found[0]
        self._output.print(Text(f"# The hub is at {self.hub_url}", style="cyan"))

    async def ended(self, device: str, status: str, *, exit_code: int) -> None:
        """Wait for the end of a device's process and for the state that tells of it."""
        ended = self._guards[device]
        await self._finished(ended, f"the process of {device}", exit_code)
        await self._until_status(device, status)
        said = f"# {device}: the process ended with exit code {exit_code}; its state is now {status}."
        self._output.print(Text(said, style="cyan"))

    async def end_devices(self) -> None:
        """End all devices and the hub, as SIGTERM does; returns when they are gone."""
        processes = [*self._guards.values(), *([] if self._hub is None else [self._hub])]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        await asyncio.gather(*(process.wait() for process in processes))

    def next_lines(self) -> Text:
        """What the user may try, each line ready to be copied."""
        lines = ["", *([f"In a browser: {self.hub_url}", ""] if self.hub_url else [])]
        lines += ["The fleet is yours. In another terminal:", ""]
        if shutil.which("outrider") is None:
            lines.append(f"  export PATH={Path(sys.executable).parent}:$PATH")
        lines += [
            f"  export OUTRIDER_BROKER={self.broker.address}",
            "  outrider devices",
            "  outrider about lamp-1",
            "  outrider send all calculate 5 'two words'",
            "  outrider repl",
            f"  tail -f {self._log('lamp-1')}",
        ]
        if shutil.which("mosquitto_pub") and shutil.which("mosquitto_sub"):
            where = f"-h {self.broker.client_host} -p {self.broker.ports['3.1.1']}"
            lines += [
                "",
                "By hand:",
                "",
                f"  mosquitto_sub {where} -v -t devices/lamp-1/state -t 'devices/lamp-1/result/#'",
                f"""  mosquitto_pub {where} -q 1 -t devices/lamp-1/cmd -m '{{"command": "ping"}}'""",
            ]
        return Text("\n".join((*lines, "", "Ctrl-C ends the devices, the hub and the broker.")))

    def _log(self, device: str) -> Path:
        return self._logs / f"{device}.log"

    @contextlib.asynccontextmanager
    async def _process(self, line: str, stdout: int | None = None) -> AsyncGenerator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *_program(line), stdin=asyncio.subprocess.DEVNULL, stdout=stdout, env=self._environment
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _until_busy(self, device: str, process: asyncio.subprocess.Process) -> None:
        """Wait until a job runs on the device, or the process that sent it has ended."""
        with _limit(f"{device} did not take the command"):
            async with asyncio.timeout(STEP_LIMIT):
                while process.returncode is None and not await self.fleet.call(device, "jobs"):  # noqa: ASYNC110  # no event tells of it
                    await asyncio.sleep(POLL)

    async def _finished(self, process: asyncio.subprocess.Process, what: str, exit_code: int) -> None:
        with _limit(f"{what} did not end"):
            async with asyncio.timeout(STEP_LIMIT):
                code = await process.wait()
        if code != exit_code:
            raise DemoFailed(f"{what} ended with exit code {code} instead of {exit_code}")

    async def _until_status(self, device: str, *statuses: str) -> None:
        """Wait until the device says one of these of itself, or the broker of it."""
        with _limit(f"{device} did not become {' or '.join(statuses)}"):
            async with asyncio.timeout(STEP_LIMIT):
                while not self._is(device, statuses):
                    code = self._guards[device].returncode
                    if code is not None and "ready" in statuses:
                        log = self._log(device).read_text(errors="replace").strip()
                        raise DemoFailed(f"{device} ended with exit code {code}; it said:\n{log}")
                    await asyncio.sleep(POLL)

    def _is(self, device: str, statuses: tuple[str, ...]) -> bool:
        state = self.fleet.roster.states.get(device)
        return state is not None and state.status in statuses


def _calculations(ping: float) -> Iterator[int]:
    """Seconds to calculate for, so that a ping, which took so many, has its time meanwhile on a slow machine too.

    More and more, as that machine may have become busy since.
    """
    seconds = max(CALCULATION[0], min(math.ceil(3 * ping), CALCULATION[1]))
    while seconds < CALCULATION[1]:
        yield seconds
        seconds *= 3
    yield CALCULATION[1]


@contextlib.contextmanager
def _limit(what: str) -> Generator[None]:
    """Turn a timeout into the failure of a step."""
    try:
        yield
    except TimeoutError:
        raise DemoFailed(f"{what} within {STEP_LIMIT:g} s") from None


def _program(line: str) -> Sequence[str]:
    """The words of a command, with the console script replaced by its module."""
    script, *words = shlex.split(line)
    return (sys.executable, "-P", "-m", PROGRAMS[script], *words)
