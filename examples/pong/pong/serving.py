"""A player as a process: an outrider device, or over HTTP alone, with a log in the current folder."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import httpx

from outrider.device import Device, Job

from .game import Refused
from .player import Player
from .score import Score
from .shelf import Shelf
from .transport import OverBoth, OverHttp
from .web import listening, served

GROUP = "players"
"""The group that all players are in."""


async def over_mqtt(name: str, broker: str, prefix: str, http: str | None, urls: Mapping[str, str]) -> None:
    """Play as a device on a broker until SIGTERM or Ctrl-C, and answer over HTTP as well where that is wanted.

    :param urls: of the players that are on no broker, by their names.
    """
    device = Device(name, groups=[GROUP], initial="ready")
    client = httpx.AsyncClient(trust_env=False)
    player = Player(name, OverBoth(device, client, urls), Shelf(name))

    @device.command(idempotent=True)
    async def ping(job: Job, score: Score | None = None) -> str:
        """Answer `pong` at once; of a game's ping, ping back when the interval is over."""
        _check_sender(job, score)
        return await player.ping(score)

    @device.command(idempotent=True)
    async def tell(job: Job, score: Score) -> None:
        """Hear from the opponent that a game was paused, resumed or stopped."""
        _check_sender(job, score)
        await player.tell(score)

    for command in (player.play, player.pause, player.resume, player.finish, player.games):
        device.command(command)
    device.background(player.run)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(client)
        if http:
            bound = stack.enter_context(contextlib.closing(listening(http)))
            await stack.enter_async_context(served(player, bound))
        await device.serve_until_signal(broker, prefix=prefix)


async def over_http(name: str, http: str, urls: Mapping[str, str]) -> None:
    """Play over HTTP, without a broker, until SIGTERM or Ctrl-C.

    :param urls: of the other players, by their names.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with httpx.AsyncClient(trust_env=False) as client:
        player = Player(name, OverHttp(client, urls), Shelf(name))
        with contextlib.closing(listening(http)) as bound:
            async with served(player, bound):
                playing = asyncio.create_task(player.run(), name=name)
                await ended.wait()
                playing.cancel()
                await asyncio.wait((playing,))


def log_to(path: Path) -> None:
    """Write what happens in the games to a file, line by line, and to standard error what else goes wrong."""
    lines = logging.FileHandler(path)  # flushes each
    lines.setFormatter(_Precise("%(asctime)s %(message)s"))
    games = logging.getLogger("pong")
    games.setLevel(logging.INFO)
    games.addHandler(lines)
    errors = logging.StreamHandler()
    errors.setLevel(logging.WARNING)
    errors.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # Whoever asked for it is told; it needs no traceback here.
    errors.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], Refused)))
    logging.getLogger().addHandler(errors)


class _Precise(logging.Formatter):
    """Local time to the microsecond, so that a log shows how well an interval was kept."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="microseconds")


def _check_sender(job: Job, score: Score | None) -> None:
    """A game is played by its two players, and by nobody else: the broker vouches for who asks."""
    if score is not None and job.requester not in score.players:
        raise Refused(f"{job.requester or 'whoever asks'} does not play {score.game}")
