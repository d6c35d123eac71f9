"""`outrider broker`: a broker for development in the foreground, until Ctrl-C."""

import asyncio
import signal
from typing import Annotated

import typer
from rich.console import Console

from outrider.controller.broker import (
    DEFAULT_PORT,
    LOOPBACK,
    BrokerKind,
    BrokerNotStarted,
    BrokerProcess,
    is_loopback,
    start_broker,
)

UNREACHABLE = 3
"""Exit code: there is no broker to talk to."""

LOOK_AGAIN = 2.0
"""Seconds between two looks at whether the broker still takes connections."""

_NAMES = {BrokerKind.MOSQUITTO: "Mosquitto", BrokerKind.EMBEDDED: "embedded rumqttd"}
_PING = """'{"command":"ping"}'"""
_CLIENT_OPTIONS = {"5": "mqttv5", "3.1.1": "mqttv311"}


def broker(
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Where to listen; 0 finds a free port.")
    ] = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address to listen on. There is no password: keep it on loopback.")
    ] = LOOPBACK,
    kind: Annotated[
        BrokerKind, typer.Option(help="auto is Mosquitto where it is installed, else the embedded broker.")
    ] = BrokerKind.AUTO,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the broker's own log on stderr.")] = False,
) -> None:
    """Run a broker for development until Ctrl-C, and say how to reach it."""
    output = Console(highlight=False, soft_wrap=True)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if not is_loopback(host):
            errors.print(
                f"[yellow]warning:[/] on {host} everybody who reaches this machine can command your devices: "
                "this broker asks for no password"
            )
        asyncio.run(_run(port, kind, host, verbose, output))
    except BrokerNotStarted as error:
        errors.print(f"error: {error}", markup=False)
        raise typer.Exit(UNREACHABLE) from None


async def _run(port: int, kind: BrokerKind, host: str, verbose: bool, output: Console) -> None:
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_end.set)
    async with start_broker(port, kind, host, verbose=verbose) as process:
        output.print(_introduction(process), markup=False)
        while not asked_to_end.is_set():
            await until_ended_or_deaf(process, asked_to_end)
            if asked_to_end.is_set():
                break
            await process.restart()
            output.print(
                "The embedded broker stopped taking connections, after a fault of its own; it has been started again "
                "on the same ports. Devices come back by themselves; what was retained or waiting in it is gone.",
                markup=False,
            )


async def until_ended_or_deaf(process: BrokerProcess, asked_to_end: asyncio.Event) -> None:
    """Return when the user asked to end, or the broker needs to be started again.

    :raises BrokerNotStarted: its process ended by itself.
    """
    ended = asyncio.create_task(process.wait(), name="broker ends")
    asked = asyncio.create_task(asked_to_end.wait(), name="asked to end")
    try:
        while not asked_to_end.is_set() and not await process.deaf():
            await asyncio.wait((ended, asked), timeout=LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not asked_to_end.is_set():
                log = process.log_tail()
                message = f"the {process.kind} broker at {process.address} ended by itself"
                message += f" with exit code {ended.result()}"
                raise BrokerNotStarted(message + (f"; its log ends:\n{log}" if log else ""))
    finally:
        asked.cancel()
        ended.cancel()


def _introduction(process: BrokerProcess) -> str:
    versions: dict[int, list[str]] = {}
    for version, port in process.ports.items():
        versions.setdefault(port, []).append(version)
    # mosquitto_pub speaks 3.1.1 unless told otherwise.
    options = {
        port: f"-V {_CLIENT_OPTIONS[spoken[0]]} " if len(versions) > 1 else "" for port, spoken in versions.items()
    }
    return "\n".join(
        (
            f"{_NAMES[process.kind]} (process {process.pid}), without passwords, nothing kept on disk:",
            *(f"  {process.host} port {port}: MQTT {' and '.join(spoken)}" for port, spoken in versions.items()),
            "",
            "In other terminals:",
            f"  export OUTRIDER_BROKER={process.address}",
            "",
            "By hand:" if len(versions) == 1 else "By hand, either of:",
            *(
                f"  mosquitto_pub {option}-h {process.client_host} -p {port} -q 1 -t devices/lamp-1/cmd -m {_PING}"
                for port, option in options.items()
            ),
            "",
            "Ctrl-C ends it.",
        )
    )
