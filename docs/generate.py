"""What of the pages the code makes.

In protocol.md the table of conditions and the transcript of a device driven by hand, in reliability.md the tables of
scenarios.

Run it as `python -m docs.generate`: it writes them into the pages. The transcript needs mosquitto and its clients.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from outrider.controller.broker import BrokerKind, BrokerProcess, find_mosquitto, start_broker
from outrider.schema import CONDITIONS
from tests.faults.scenarios import SCENARIOS

PROTOCOL: Final = Path(__file__).with_name("protocol.md")
RELIABILITY: Final = Path(__file__).with_name("reliability.md")
LIMIT: Final = 10.0
"""Seconds for each step."""


class Line(NamedTuple):
    """A line of `mosquitto_sub -v`."""

    topic: str
    payload: str

    def get(self, key: str) -> object:
        return json.loads(self.payload).get(key)


class Step(NamedTuple):
    """A command that is typed, and when its answers are complete."""

    command: str
    complete: Callable[[Sequence[Line]], bool]


def _pub(payload: str) -> str:
    return f"mosquitto_pub -q 1 -t devices/lamp-1/cmd -m '{payload}'"


def _result_of(command: str) -> Callable[[Sequence[Line]], bool]:
    return lambda lines: any("/result" in line.topic and line.get("command") == command for line in lines)


def _status(status: str) -> Callable[[Sequence[Line]], bool]:
    return lambda lines: any(line.topic.endswith("/state") and line.get("status") == status for line in lines)


def _accepted(lines: Sequence[Line]) -> bool:
    return any(line.get("accepted") for line in lines)


def _both_results(lines: Sequence[Line]) -> bool:
    return sum("/result" in line.topic for line in lines) == 2


STEPS: Final = (
    Step(
        "mosquitto_sub -v -q 1 -t devices/lamp-1/state -t 'devices/lamp-1/progress/#' -t 'devices/lamp-1/result/#' &",
        _status("unready"),
    ),
    Step(_pub('{"command": "start"}'), _result_of("start")),
    Step(_pub('{"command": "ping"}'), _result_of("ping")),
    Step(
        _pub('{"id": "c1", "from": "ann", "command": "calculate", "args": [0.5, "two words"]}'),
        _accepted,
    ),
    Step(_pub('{"id": "p1", "from": "bob", "command": "ping"}'), _both_results),
    Step(_pub('{"command": "stop"}'), _result_of("stop")),
    Step(_pub('{"id": "p2", "from": "bob", "command": "ping"}'), _result_of("ping")),
    Step(_pub('{"command": "terminate"}'), _status("terminated")),
)


def conditions() -> str:
    """The table of what a device may answer other than `done`."""
    rows = [
        f"| {row.condition} | `{row.status}` | {f'`{row.code}`' if row.code else ''} | `{row.exception.__name__}` |"
        for row in CONDITIONS
    ]
    return "\n".join(("| condition | status | code | exception |", "|---|---|---|---|", *rows))


def scenarios() -> str:
    """The tables of what is tried in `tests/faults`."""
    tables: list[str] = []
    for title, group in SCENARIOS.items():
        rows = [f"| {each.fault} | {each.outcomes} | {each.runs} | `{each.name}` |" for each in group]
        head = "| fault | what the requester gets | executions | scenario |", "|---|---|---|---|"
        tables.append("\n".join((f"### {title}", "", *head, *rows)))
    return "\n\n".join(tables)


async def transcript() -> list[tuple[str, list[Line]]]:
    """Type the steps for real and return each with the lines that `mosquitto_sub` printed until it was complete.

    :raises TimeoutError: the answers of a step do not come; the message has what came.
    """
    async with (
        start_broker(kind=BrokerKind.MOSQUITTO) as broker,
        _device(broker) as device,
        contextlib.AsyncExitStack() as stack,
    ):
        environment = stack.enter_context(_clients(broker))
        subscriber: asyncio.subprocess.Process | None = None
        steps: list[tuple[str, list[Line]]] = []
        for step in STEPS:
            # exec, so that a signal reaches the program and not a shell around it.
            typed = f"exec {step.command.removesuffix(' &')}"
            process = await asyncio.create_subprocess_shell(typed, env=environment, stdout=asyncio.subprocess.PIPE)
            if subscriber is None:
                subscriber = process
                stack.push_async_callback(_end, process)
            lines: list[Line] = []
            try:
                async with asyncio.timeout(LIMIT):
                    while not step.complete(lines):
                        lines.append(await _read(subscriber))
                    if process is not subscriber:
                        assert await process.wait() == 0, step.command
            except TimeoutError:
                raise TimeoutError(f"{step.command} was not answered; there came {lines}") from None
            steps.append((step.command, lines))
        async with asyncio.timeout(LIMIT):
            code = await device.wait()
        assert code == 0, f"the device ended with exit code {code}"
        return steps


def in_page(steps: Sequence[tuple[str, Sequence[Line]]]) -> str:
    """The transcript as it stands in the page."""
    rows: list[str] = []
    for command, lines in steps:
        rows += [f"$ {command}", *(f"{line.topic} {line.payload}" for line in lines)]
    return "\n".join(("```console", *rows, "```"))


def has_block(page: str, name: str) -> bool:
    """Whether the page has this generated part."""
    return _mark(name) in page


def block(page: str, name: str) -> str:
    """What stands between the marks of a generated part."""
    return page.split(_mark(name), 1)[1].split(_END, 1)[0].strip()


def with_block(page: str, name: str, text: str) -> str:
    """The page with another generated part."""
    before, rest = page.split(_mark(name), 1)
    return f"{before}{_mark(name)}\n{text}\n{_END}{rest.split(_END, 1)[1]}"


_END = "<!-- end -->"


def _mark(name: str) -> str:
    return f"<!-- {name}: made by docs/generate.py -->"


@contextlib.asynccontextmanager
async def _device(broker: BrokerProcess) -> AsyncGenerator[asyncio.subprocess.Process]:
    typed = f"-m outrider.device.main run --id lamp-1 --journal memory --broker {broker.address}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, *typed.split(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        await _end(process)


@contextlib.contextmanager
def _clients(broker: BrokerProcess) -> Generator[dict[str, str]]:
    """An environment in which mosquitto's clients find this broker without options."""
    with tempfile.TemporaryDirectory() as directory:
        for client in ("mosquitto_pub", "mosquitto_sub"):
            Path(directory, client).write_text(f"-h {broker.client_host}\n-p {broker.ports['3.1.1']}\n")
        yield {**os.environ, "XDG_CONFIG_HOME": directory}


async def _read(subscriber: asyncio.subprocess.Process) -> Line:
    assert subscriber.stdout is not None
    text = (await subscriber.stdout.readline()).decode().rstrip("\n")
    assert text, "mosquitto_sub ended"
    topic, _, payload = text.partition(" ")
    return Line(topic, payload)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


def main() -> None:
    page = with_block(PROTOCOL.read_text(), "conditions", conditions())
    if find_mosquitto() and shutil.which("mosquitto_pub") and shutil.which("mosquitto_sub"):
        page = with_block(page, "transcript", in_page(asyncio.run(transcript())))
    else:
        print("The transcript stays as it is; to make it anew: apt install mosquitto mosquitto-clients")
    PROTOCOL.write_text(page)
    RELIABILITY.write_text(with_block(RELIABILITY.read_text(), "scenarios", scenarios()))


if __name__ == "__main__":
    main()
