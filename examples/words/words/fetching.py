"""Fetches a page from a stranger's server: bounded in size, time and redirects, and never from a private address.

A name is resolved once for each request, redirects among them. All its addresses must be public, and the connection
goes to the very address that was judged: a name that means another one a moment later (DNS rebinding) changes nothing.
"""

import asyncio
import codecs
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx

SIZE: Final = 10_000_000
"""Bytes of a page, unpacked."""

WITHIN: Final = 30.0
"""Seconds for all of it, redirects included."""

REDIRECTS: Final = 5
LONGEST: Final = 2048
"""Characters of a URL."""

_CONNECT: Final = 10.0
_NAT64: Final = IPv6Network("64:ff9b::/96")
_HEADERS: Final = {"User-Agent": "outrider-words/0.1", "Accept": "text/html, text/plain", "Accept-Encoding": "gzip"}
_CONTEXT: Final = ssl.create_default_context()  # takes as long as to fetch a page
_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_META: Final = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w:.-]+)""", re.IGNORECASE)

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]
"""Finds the addresses that a name stands for; at least one."""


class CannotFetch(Exception):
    """A page that there is no text of, and why."""


class Page(NamedTuple):
    """What came: the text, and whether it is HTML."""

    text: str
    html: bool


def check_url(url: str) -> httpx.URL:
    """Read a URL.

    :raises ValueError: nobody could fetch it.
    """
    if len(url) > LONGEST:
        raise ValueError(f"the URL has more than {LONGEST:,} characters")
    try:
        parsed, port = httpx.URL(url), urlsplit(url).port
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{url!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or port == 0:
        raise ValueError(f"{url!r} is no URL of a page: write http://… or https://…")
    if not _is_host(parsed.raw_host.decode("ascii")):
        raise ValueError(f"{url!r} is no URL of a page: there can be no host {parsed.host!r}")
    return parsed


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet: not to this machine, its network, or a special use (RFC 6890)."""
    inner = _inner(address)
    return is_public(inner) if inner else address.is_global and not address.is_multicast and not address.is_reserved


async def fetch(url: str, *, private: bool = False, resolve: Resolve | None = None) -> Page:
    """Fetch a page.

    :param private: let private addresses pass, for tests and for pages of one's own.
    :param resolve: finds addresses, by default as the system does.
    :raises CannotFetch: and why.
    """
    try:
        async with asyncio.timeout(WITHIN), _opened(check_url(url), private, resolve or _resolve) as response:
            body = await _read(response)
    except TimeoutError:
        raise CannotFetch(f"{url} took longer than {WITHIN:g} s") from None
    except httpx.TooManyRedirects:
        raise CannotFetch(f"{url} leads on more than {REDIRECTS} times") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise CannotFetch(f"{url}: {str(error) or type(error).__name__}") from error
    kind = response.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
    if kind not in ("text/html", "application/xhtml+xml", "text/plain", ""):
        raise CannotFetch(f"{url} is {kind}, and no page")
    return Page(decoded(body, response.charset_encoding), kind != "text/plain")


def decoded(body: bytes, charset: str | None) -> str:
    """The text of a body: by its byte order mark, what HTTP says, what the page says, else UTF-8."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if body.startswith(mark):
            return body.decode(name, "replace")
    said = _META.search(body[:1024])
    for label in (charset, said[1].decode("ascii", "replace") if said else None):
        if label:
            try:
                found = codecs.lookup(label).name
                # What calls itself Latin-1 is Windows' superset of it (WHATWG, Encoding).
                return body.decode("cp1252" if found in ("iso8859-1", "ascii") else found, "replace")
            except (LookupError, UnicodeError, AttributeError):
                continue  # no encoding that Python knows, or none of text, as `rot13`
    return body.decode("utf-8", "replace")


@asynccontextmanager
async def _opened(url: httpx.URL, private: bool, resolve: Resolve) -> AsyncGenerator[httpx.Response]:
    transport = _Checked(private, resolve)
    # No proxy of the environment: it would resolve the name itself.
    client = httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=True,
        max_redirects=REDIRECTS,
        timeout=httpx.Timeout(WITHIN, connect=_CONNECT),
    )
    async with client, client.stream("GET", url, headers=_HEADERS) as response:
        if response.status_code != 200:
            raise CannotFetch(f"{url} answered {response.status_code} {response.reason_phrase}")
        yield response


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > SIZE:
            raise CannotFetch(f"{response.url} has more than {SIZE:,} bytes")
    return bytes(body)


class _Checked(httpx.AsyncBaseTransport):
    """Sends each request, redirects among them, to an address that was judged."""

    def __init__(self, private: bool, resolve: Resolve) -> None:
        self._inner = httpx.AsyncHTTPTransport(verify=_CONTEXT, trust_env=False)
        self._private = private
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.raw_host.decode("ascii")
        addresses = await self._addresses(name, request.url.port or {"http": 80}.get(request.url.scheme, 443))
        # The header Host was set from the URL; TLS asks for this name, and holds the certificate to it.
        request.extensions["sni_hostname"] = name
        unreachable: httpx.TransportError | None = None
        url = request.url
        for address in addresses:
            request.url = url.copy_with(host=str(address))
            try:
                return await self._inner.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                unreachable = error
            finally:
                request.url = url
        assert unreachable is not None
        raise unreachable

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _addresses(self, name: str, port: int) -> list[Address]:
        try:
            addresses = await self._resolve(name, port)
        except OSError as error:
            raise CannotFetch(f"{name} cannot be found: {error.strerror}") from error
        for address in addresses:
            if not self._private and not is_public(address):
                raise CannotFetch(f"{name} is at {address}, which is no public address")
        return addresses


def _is_host(host: str) -> bool:
    """Whether it is an address, or could be a name (RFC 1123), also with the dot of the root at its end."""
    try:
        ip_address(host)
    except ValueError:
        name = host.removesuffix(".")
        return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))
    return True


async def _resolve(name: str, port: int) -> list[Address]:
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(address[4][0]) for address in found))


def _inner(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to through a gateway, or is another way to write."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
