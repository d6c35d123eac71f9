"""The hub asked over HTTP, for the command line and scripts."""

import contextlib
from collections.abc import Generator, Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx
import msgspec

from outrider.controller.results import Jobs
from outrider.schema import BrokerUnreachable, LocalError

from .api.bodies import CommandStatus, Me, TargetPreview
from .records import EventRecord, Page, ResultRecord

T = TypeVar("T")

ANSWER_WITHIN: Final = 30.0
"""Seconds for the hub to answer, beside what it was asked to wait."""

ON_A_PAGE: Final = 1000
"""Things asked for at once."""


class HubUnreachable(BrokerUnreachable):
    """No hub answers at this address: there is nobody to ask, as where there is no broker."""


class HubRefused(LocalError):
    """The hub did not do what it was asked; the message is its own.

    :ivar code: of the problem.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class _Said(msgspec.Struct):
    """A problem, as far as it is one."""

    detail: str = ""
    code: str = ""


# msgspec reads no `Raw | None`: what is null stays JSON here.
_NULL: Final = msgspec.Raw(b"null")


class Result(ResultRecord, frozen=True, kw_only=True, tag="result"):
    """A result as it came."""

    value: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class Event(EventRecord, frozen=True, kw_only=True, tag="event"):
    """An event as it came."""

    data: msgspec.Raw = _NULL


class HubClient:
    """A context in which a hub can be asked.

    :param url: as `http://localhost:8420`.
    :param token: where the hub asks for one.
    :raises HubUnreachable: the URL cannot be used.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {} if not token else {"Authorization": f"Bearer {token}"}
        try:
            self._http = httpx.Client(base_url=f"{url.rstrip('/')}/api/v1", headers=headers, timeout=ANSWER_WITHIN)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise HubUnreachable(f"{url!r} is no address of a hub: write http://HOST:PORT ({error})") from None
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            raise HubUnreachable(f"{url!r} is no address of a hub: write http://HOST:PORT")
        self._url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def me(self) -> Me:
        """Who this client is to the hub."""
        return self._get("/me", Me)

    def command(self, id: str, *, wait: float = 0.0) -> CommandStatus:
        """A command with all its outcomes.

        :param wait: seconds to wait for its end, at most 60.
        :raises HubRefused: with the code `not-found`, where it is none of this client's.
        """
        status = self._get(f"/commands/{id}", CommandStatus, wait=wait or None, limit=10_000)
        while status.next is not None:
            more = self._get(f"/commands/{id}", CommandStatus, cursor=status.next, limit=10_000)
            status = msgspec.structs.replace(more, outcomes=[*status.outcomes, *more.outcomes])
        return status

    def results(self, *, requester: str | None = None, behalf: str | None = None) -> Iterator[Result]:
        """Recorded results, newest first."""
        cursor: int | None = None
        while True:
            page = self._get(
                "/results", Page[Result], requester=requester, behalf=behalf, cursor=cursor, limit=ON_A_PAGE
            )
            yield from page.items
            if (cursor := page.next) is None:
                return

    def jobs(self, target: str | None) -> Jobs:
        """What devices are doing now."""
        return self._get("/jobs", Jobs, target=target)

    def devices(self, target: str) -> frozenset[str]:
        """The devices that a target stands for."""
        return frozenset(self._get("/targets", TargetPreview, target=target).devices)

    def events(
        self,
        *,
        name: str | None = None,
        key: str | None = None,
        since: float | None = None,
        after: int | None = None,
        cursor: int | None = None,
        limit: int = ON_A_PAGE,
    ) -> Page[Event]:
        """Events, newest first; with `after` those stored later, oldest first."""
        return self._get(
            "/events",
            Page[Event],
            name=name,
            key=key,
            since=since,
            after=after,
            cursor=cursor,
            limit=limit,
        )

    def _get(self, path: str, kind: type[T], **parameters: str | float | None) -> T:
        given = {name: value for name, value in parameters.items() if value is not None}
        wait = given.get("wait", 0)
        with self._in_words():
            timeout = ANSWER_WITHIN + (wait if isinstance(wait, int | float) else 0)
            answer = self._http.get(path, params=given, timeout=timeout)
        if not answer.is_success:
            raise self._refused(answer)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise HubUnreachable(f"what answers at {self._url} is no hub, or one of another version: {error}") from None

    def _refused(self, answer: httpx.Response) -> LocalError:
        try:
            said = msgspec.json.decode(answer.content, type=_Said)
        except msgspec.MsgspecError:
            said = _Said()
        if not said.code:
            return HubUnreachable(f"what answers at {self._url} is no hub: HTTP {answer.status_code}")
        if said.detail == HTTPStatus.NOT_FOUND.phrase:  # of a route; of a thing the hub says more
            return HubUnreachable(f"a hub answers at {self._url}, but not there: write http://HOST:PORT alone")
        words = said.detail
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            words += "; put one into OUTRIDER_HUB_TOKEN"
        return HubRefused(words, said.code)

    @contextlib.contextmanager
    def _in_words(self) -> Generator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise HubUnreachable(f"no hub answers at {self._url}: {error or type(error).__name__}") from None
