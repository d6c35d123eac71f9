"""`python -m vowels.client FILE`: plays the letters of a text as load, over HTTP or as a device over MQTT."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Annotated, Protocol
from uuid import UUID, uuid4

import httpx
import typer

from outrider.device import Device, MemoryJournal
from outrider.schema import OutriderError

WITHIN = 10.0
"""Seconds for an answer."""


class Way(Protocol):
    """How requests get to the service."""

    async def initial(self, uuid: UUID, symbol: str) -> bool: ...

    async def followup(self, uuid: UUID) -> str: ...


class OverHttp:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def initial(self, uuid: UUID, symbol: str) -> bool:
        return await self._posted("/initial", uuid=str(uuid), symbol=symbol) == "True"

    async def followup(self, uuid: UUID) -> str:
        return await self._posted("/followup", uuid=str(uuid))

    async def _posted(self, path: str, **parameters: str) -> str:
        answer = await self._client.post(path, params=parameters)
        return answer.raise_for_status().text


class OverMqtt:
    """A device's way: it calls a hub."""

    def __init__(self, device: Device, hub: str) -> None:
        self._device = device
        self._hub = hub

    async def initial(self, uuid: UUID, symbol: str) -> bool:
        return await self._device.call(self._hub, "initial", uuid=str(uuid), symbol=symbol, type=bool, wait=WITHIN)

    async def followup(self, uuid: UUID) -> str:
        return await self._device.call(self._hub, "followup", uuid=str(uuid), type=str, wait=WITHIN)


Playing = Callable[[Way], Awaitable[Counter[str]]]


async def over_http(url: str, playing: Playing) -> Counter[str]:
    token = os.environ.get("OUTRIDER_HUB_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=WITHIN) as client:
        return await playing(OverHttp(client))


async def over_mqtt(broker: str, name: str, hub: str, playing: Playing) -> Counter[str]:
    device = Device(name, initial="ready", journal=MemoryJournal())
    counted: asyncio.Future[Counter[str]] = asyncio.get_running_loop().create_future()

    @device.background
    async def play_and_end() -> None:
        try:
            counted.set_result(await playing(OverMqtt(device, hub)))
        except Exception as error:
            counted.set_exception(error)
        finally:
            device.stop()

    await device.serve(broker)
    return await counted


def letters(text: str) -> Iterator[str]:
    return (each for each in text.lower() if each in ascii_lowercase)


async def play(way: Way, symbols: Iterator[str], *, parallel: int, followups: float, random: Random) -> Counter[str]:
    """Ask for each letter, several at a time, and follow some answers up; return what came of it."""
    counted: Counter[str] = Counter()

    async def one_after_the_other() -> None:
        for symbol in symbols:  # shared by all of them
            uuid = uuid4()
            counted[str(await way.initial(uuid, symbol))] += 1
            if random.random() < followups:
                counted[await way.followup(uuid)] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(parallel):
            tasks.create_task(one_after_the_other())
    return counted


def main(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A text; other characters are left out.")],
    http: Annotated[str, typer.Option(metavar="URL", help="The hub.")] = "http://127.0.0.1:8420",
    broker: Annotated[str | None, typer.Option(metavar="URL", help="Ask over MQTT instead, as a device.")] = None,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The device's id.")] = "vowels-client",
    hub: Annotated[str, typer.Option("--to", metavar="TARGET", help="The hub that the device calls.")] = "vowels",
    parallel: Annotated[int, typer.Option(min=1, max=900, help="Requests at a time.")] = 16,
    followups: Annotated[float, typer.Option(min=0, max=1, help="How many of the answers are followed up.")] = 0.3,
    seed: Annotated[int | None, typer.Option(help="Follow up the same answers again.")] = None,
) -> None:
    """Play the letters of a text as load, and say what the service answered."""
    symbols = letters(file.read_text(errors="replace"))
    playing = partial(play, symbols=symbols, parallel=parallel, followups=followups, random=Random(seed))
    began = time.perf_counter()
    try:
        counted = asyncio.run(over_mqtt(broker, name, hub, playing) if broker else over_http(http, playing))
    except (OutriderError, httpx.InvalidURL) as error:
        raise _failed(error) from error
    except ExceptionGroup as group:  # one for each that asked
        _, others = group.split((OutriderError, httpx.HTTPError))
        if others is not None:
            raise
        raise _failed(group.exceptions[0]) from group
    requests, seconds = counted.total(), time.perf_counter() - began
    typer.echo(f"{counted['True']:,} True, {counted['False']:,} False, {counted['hooray']:,} followed up")
    typer.echo(f"{requests:,} requests in {seconds:.1f} s, {requests / seconds:,.0f}/s")


def _failed(error: Exception) -> typer.Exit:
    typer.echo(f"vowels: {error}", err=True)
    return typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
