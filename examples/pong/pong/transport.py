"""How a player asks another one: by a command over MQTT, or by a POST over HTTP."""

from collections.abc import Mapping
from typing import Protocol

import httpx

from outrider.device import Device
from outrider.schema import OutriderError

HTTP_WAIT = 2.0
"""Seconds for a player to answer a ping over HTTP."""


class NotDone(Exception):
    """There was no answer in time, or the other player has refused; it says why."""


class Transport(Protocol):
    """What the game needs of a network."""

    async def ask(self, player: str, command: str, *arguments: object) -> object:
        """Call a command of another player once, and return its value.

        :raises NotDone: nobody answered in time, or the player refused.
        """
        ...


class OverMqtt:
    """A device commands another one, over the connection that it has anyway.

    A call waits for half a minute, and is repeated as soon as the other one, or the broker, is back.
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    async def ask(self, player: str, command: str, *arguments: object) -> object:
        """See `Transport`."""
        try:
            return await self._device.call(player, command, *arguments)
        except OutriderError as error:
            raise NotDone(str(error)) from error


class OverBoth:
    """Over HTTP to the players whose URLs are known, and over MQTT to all others."""

    def __init__(self, device: Device, client: httpx.AsyncClient, urls: Mapping[str, str]) -> None:
        self._mqtt = OverMqtt(device)
        self._http = OverHttp(client, urls)
        self._urls = urls

    async def ask(self, player: str, command: str, *arguments: object) -> object:
        """See `Transport`."""
        transport = self._http if player in self._urls else self._mqtt
        return await transport.ask(player, command, *arguments)


class OverHttp:
    """The same over HTTP, for players that know each other's URLs.

    :param wait: seconds for an answer.
    """

    def __init__(self, client: httpx.AsyncClient, urls: Mapping[str, str], wait: float = HTTP_WAIT) -> None:
        self._client = client
        self._urls = urls
        self._wait = wait

    async def ask(self, player: str, command: str, *arguments: object) -> object:
        """See `Transport`."""
        if (url := self._urls.get(player)) is None:
            raise NotDone(f"nobody has said where {player} is: --at {player}=http://HOST:PORT")
        try:
            response = await self._client.post(f"{url.rstrip('/')}/{command}", json=arguments, timeout=self._wait)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotDone(f"{url} does not answer: {str(error) or type(error).__name__}") from error
        if not response.is_success:
            raise NotDone(response.text or f"{url} answered with {response.status_code}")
        if not response.headers.get("content-type", "").startswith("application/json"):
            return response.text
        try:
            return response.json()
        except ValueError as error:
            raise NotDone(f"{url} answered with broken JSON: {error}") from error
