"""`pong`, or `python -m pong`: run players, and start, pause, resume, stop and look at their games."""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import httpx
import msgspec
import typer

from outrider.controller import Fleet
from outrider.schema import OutriderError, UnknownTarget, check_name

from .game import Refused
from .player import View
from .running import DEFAULT_BROKER
from .running import run as run_all
from .score import Phase
from .serving import GROUP, log_to, over_http, over_mqtt
from .transport import NotDone, OverHttp

T = TypeVar("T")

ANSWER_WITHIN = 10.0
"""Seconds for a player to answer."""

app = typer.Typer(help="A game of ping and pong between devices.", no_args_is_help=True, pretty_exceptions_enable=False)

Transport = Literal["mqtt", "http"]
TransportOption = Annotated[Transport, typer.Option(help="http: no broker, players are where --at says.")]
AtOption = Annotated[
    list[str] | None, typer.Option("--at", metavar="PLAYER=URL", help="Where a player answers over HTTP.")
]
BrokerOption = Annotated[str, typer.Option(envvar="OUTRIDER_BROKER", metavar="URL", help="The broker.")]
PrefixOption = Annotated[str, typer.Option(envvar="OUTRIDER_PREFIX", help="Levels before every topic.")]
BetweenOption = Annotated[
    tuple[str, str], typer.Option(metavar="PLAYER OPPONENT", help="The player that is told, and whom it plays with.")
]
GameOption = Annotated[str, typer.Option(metavar="NAME", help="Which game, where these two play several.")]
DEFAULT_PLAYERS = ("first", "second")


@app.command()
def player(
    name: Annotated[str, typer.Argument(help="The player's name, which is the device's id.")],
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where to answer over HTTP as well.")] = None,
    transport: TransportOption = "mqtt",
    at: AtOption = None,
    broker: BrokerOption = DEFAULT_BROKER,
    prefix: PrefixOption = "",
) -> None:
    """Run a player until SIGTERM or Ctrl-C; it logs to NAME.log in the current folder."""
    if transport == "http" and http is None:
        raise typer.BadParameter("a player over HTTP has to be found: --http HOST:PORT")
    urls = _urls(at)

    async def play() -> None:
        log_to(Path(f"{check_name(name, 'player')}.log"))
        if transport == "http":
            await over_http(name, http or "", urls)
        else:
            await over_mqtt(name, broker, prefix, http, urls)

    _run(play())


@app.command()
def run(
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="first; second is on the next port.")] = None,
    at: AtOption = None,
    broker: Annotated[
        str | None,
        typer.Option(envvar="OUTRIDER_BROKER", metavar="URL", help="Else one on this machine, or a new one."),
    ] = None,
) -> None:
    """Run two players, and a broker where there is none, until Ctrl-C."""
    _run(run_all(http, broker, _urls(at)))


@app.command()
def start(
    pong_time_ms: Annotated[int, typer.Argument(help="How long each waits before it pings back, in milliseconds.")],
    between: BetweenOption = DEFAULT_PLAYERS,
    game: GameOption = "pong",
    transport: TransportOption = "mqtt",
    at: AtOption = None,
    broker: BrokerOption = DEFAULT_BROKER,
    prefix: PrefixOption = "",
) -> None:
    """Start a game."""
    asking = Asking(transport, broker, prefix, _urls(at))
    _show([_run(asking.view(between, "play", pong_time_ms, game))])


def _change(command: str, name: str, words: str) -> None:
    """Make a command of the line that changes a game."""

    @app.command(name, help=words)
    def _(  # pyright: ignore[reportUnusedFunction] - typer has it
        between: BetweenOption = DEFAULT_PLAYERS,
        game: GameOption = "pong",
        transport: TransportOption = "mqtt",
        at: AtOption = None,
        broker: BrokerOption = DEFAULT_BROKER,
        prefix: PrefixOption = "",
    ) -> None:
        _show([_run(Asking(transport, broker, prefix, _urls(at)).view(between, command, game))])


_change("pause", "pause", "Pause a game; what is left of the interval is kept.")
_change("resume", "resume", "Go on from where a game was paused.")
_change("finish", "stop", "Stop a game; the players stay up.")


@app.command()
def status(
    transport: TransportOption = "mqtt",
    at: AtOption = None,
    broker: BrokerOption = DEFAULT_BROKER,
    prefix: PrefixOption = "",
) -> None:
    """Show all games, as each player sees them; the exit code is 1 where one does not answer over HTTP."""
    views, silent = _run(Asking(transport, broker, prefix, _urls(at)).views())
    if not views and not silent:
        print("nobody plays")
    _show(views)
    for line in silent:
        typer.echo(f"pong: {line}", err=True)
    if silent:
        raise typer.Exit(1)


class Asking:
    """Asks players over MQTT as a fleet's controller, or over HTTP."""

    def __init__(self, transport: Transport, broker: str, prefix: str, urls: Mapping[str, str]) -> None:
        self._over_http = transport == "http"
        self._broker = broker
        self._prefix = prefix
        self._urls = urls

    async def view(self, between: tuple[str, str], command: str, *arguments: object) -> View:
        """Have the first of the two do something, and return how the game stands then.

        :raises NotDone: it has refused, or is not there.
        """
        player, opponent = between
        if self._over_http:
            async with httpx.AsyncClient(trust_env=False) as client:
                return await self._post(client, player, command, (opponent, *arguments), View)
        (view,) = await self._send(player, command, (opponent, *arguments), View)
        return view

    async def views(self) -> tuple[list[View], list[str]]:
        """How all games of all players stand, and a line for each player that does not answer over HTTP.

        :raises NotDone: there are no players.
        """
        silent: list[str] = []
        if not self._over_http:
            answers = await self._send(None, "games", (), list[View])
        elif self._urls:
            answers = await self._post_all("games", list[View], silent)
        else:
            raise NotDone("nobody has said where the players are: --at PLAYER=http://HOST:PORT")
        views = [view for answer in answers for view in answer]
        return sorted(views, key=lambda view: (view.player, view.opponent, view.game)), silent

    async def _post_all(self, command: str, kind: type[T], silent: list[str]) -> list[T]:
        answers: list[T] = []

        async def ask(player: str) -> None:
            try:
                answers.append(await self._post(client, player, command, (), kind))
            except (NotDone, ValueError) as error:  # ValueError: it answers something else
                silent.append(f"{player}: {error}")

        async with httpx.AsyncClient(trust_env=False) as client:
            await asyncio.gather(*map(ask, self._urls))
        return answers

    async def _post(
        self, client: httpx.AsyncClient, player: str, command: str, arguments: tuple[object, ...], kind: type[T]
    ) -> T:
        http = OverHttp(client, self._urls, ANSWER_WITHIN)
        return msgspec.convert(await http.ask(player, command, *arguments), kind)

    async def _send(self, player: str | None, command: str, arguments: tuple[object, ...], kind: type[T]) -> list[T]:
        async with Fleet(self._broker, prefix=self._prefix) as fleet:
            target = player or f"@{GROUP}"
            try:
                dispatch = fleet.dispatch(target, command, arguments, if_offline="fail", wait=ANSWER_WITHIN)
            except UnknownTarget as error:
                nobody = "no player has been seen on this broker; start two with: pong run"
                raise NotDone(str(error) if player else nobody) from error
            answers: list[T] = []
            async for outcome in dispatch.each(kind):
                if outcome.done:
                    answers.append(outcome.value)
                elif not player:  # whom the others wait for, they say themselves
                    print(f"{outcome.device} is {outcome.status}")
                else:
                    why = outcome.error.message.removeprefix("Refused: ") if outcome.error else outcome.status
                    raise NotDone(f"{outcome.device}: {why}")
            return answers


def _show(views: list[View]) -> None:
    for view in views:
        line = f"{view.player}: {view.game} with {view.opponent} is {view.phase}"
        line += f", {view.pong_time_ms} ms, {view.pings} pings"
        if view.phase is not Phase.STOPPED:
            line += f", {view.turn} pings in {max(view.left_ms, 0):.0f} ms"
        if view.waits_for:
            line += f"; waits for {view.opponent}: {view.waits_for}"
        print(line)


def _urls(at: list[str] | None) -> dict[str, str]:
    for each in at or ():
        if "=" not in each:
            raise typer.BadParameter(f"--at {each}: write PLAYER=URL, as second=http://127.0.0.1:8001")
    return dict(each.split("=", 1) for each in at or ())


def _run(work: Coroutine[None, None, T]) -> T:
    try:
        return asyncio.run(work)
    except (OutriderError, NotDone, Refused, OSError, ValueError) as error:
        typer.echo(f"pong: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app(prog_name="pong")
