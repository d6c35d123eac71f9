"""Where the broker is and how to reach it, as one URL: `mqtt://user:password@host:port`, `wss://…`, `unix:///…`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from outrider.schema.errors import InvalidAddress

Kind = Literal["tcp", "websocket", "unix"]

DEFAULT_PATH: Final = "/mqtt"
"""Of a WebSocket where the URL names none: what EMQX, HiveMQ and AWS listen on. Mosquitto takes any."""


class _Scheme(NamedTuple):
    kind: Kind
    tls: bool
    port: int


SCHEMES: Final[Mapping[str, _Scheme]] = MappingProxyType(
    {
        "mqtt": _Scheme("tcp", False, 1883),
        "mqtts": _Scheme("tcp", True, 8883),
        "ws": _Scheme("websocket", False, 80),
        "wss": _Scheme("websocket", True, 443),
        "unix": _Scheme("unix", False, 0),
    }
)
"""What each scheme stands for, with its default port."""

_EXAMPLE = (
    "Write it as mqtt://localhost:1883, mqtts://user:password@broker.example:8883?ca=ca.pem, "
    "wss://broker.example/mqtt or unix:///run/mosquitto.sock"
)
_SEVERAL = "Write several hosts as mqtt://one:1883,two:1883"
_ESCAPES = "in a user name or password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A and , as %2C"
_SCHEMES_ELSEWHERE = {
    **dict.fromkeys(("tcp", "mqtt+tcp"), "mqtt"),
    **dict.fromkeys(("ssl", "tls", "mqtt+ssl"), "mqtts"),
    **dict.fromkeys(("http", "mqtt+ws"), "ws"),
    **dict.fromkeys(("https", "mqtt+wss"), "wss"),
    **dict.fromkeys(("mqtt+unix", "file"), "unix"),
}
_URL = re.compile(
    r"(?P<scheme>[^:/?#]*)://(?P<place>[^/?#]*)(?P<path>[^?#]*)(\?(?P<query>[^#]*))?(#(?P<fragment>.*))?", re.DOTALL
)
_HOST = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(:(?P<port>.*))?", re.DOTALL)
_IN_A_PATH = "/%!$&'()*+,;=:~"
_FILES = ("ca", "cert", "key")
_KEEPALIVES = range(5, 65_536)  # MQTT 5.0, 3.1.2.10: two bytes; below 5 s a busy host takes its own pauses for losses


@dataclass(frozen=True, slots=True)
class Address:
    """A broker's host and port, with what is needed to be let in. Neither `str()` nor `repr()` shows the password.

    `path` is that of the WebSocket, or of the Unix socket, which has neither host nor port. `more` are further hosts
    and ports of the same broker, to be tried where the first does not answer. `ca`, `cert` and `key` are paths of PEM
    files, for TLS only. Without `ca` the system's authorities are trusted. `keepalive` is in seconds, None for the
    usual one.
    """

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    kind: Kind = "tcp"
    path: str = ""
    more: tuple[tuple[str, int], ...] = ()
    keepalive: int | None = None

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read a broker URL. Default ports: `mqtt` 1883, `mqtts` 8883, `ws` 80, `wss` 443; a WebSocket's path is /mqtt.

        User and password are percent-decoded, and so is the path of `unix`. `mqtts` and `wss` take
        `?ca=FILE&cert=FILE&key=FILE`, all of them `?keepalive=SECONDS`. Several hosts, each with its port, stand
        between commas.

        :raises InvalidAddress: it says what is wrong and shows an example, never the password.
        """
        shown = _without_password(url)
        parts = _URL.fullmatch(url)
        if parts is None:
            meant = f"unix://{shown.removeprefix('unix:')}" if shown.startswith(("/", "unix:")) else f"mqtt://{shown}"
            raise InvalidAddress(f"{shown!r} is not a broker's URL: did you mean {meant}?")
        name = parts["scheme"].lower()
        scheme = SCHEMES.get(name)
        if scheme is None:
            known = _SCHEMES_ELSEWHERE.get(name)
            hint = f"Did you mean {known}://{shown.partition('://')[2]}?" if known else _EXAMPLE
            raise InvalidAddress(f"{shown!r}: {name}:// is not spoken here. {hint}")
        login, at, hosts = parts["place"].rpartition("@")
        query, fragment = parts["query"] or "", parts["fragment"]
        # What follows the hosts is the rest of a password, if that holds one of the characters that end the hosts.
        # It is found by its @, and refused before anything of it could be taken for a path and be shown.
        if (login or hosts) and "@" in f"{parts['path']}{query}{fragment or ''}":
            raise InvalidAddress(f"{shown!r} has an @ after the host: {_ESCAPES}, in what follows the host @ as %40")
        if re.search(r",[a-z+]+://", parts["place"] + parts["path"], re.IGNORECASE):
            raise InvalidAddress(f"{shown!r}: the scheme stands once, and so does the path of ws://. {_SEVERAL}")
        if fragment is not None:
            raise InvalidAddress(f"{shown!r}: # cannot stand in a broker's URL; {_ESCAPES}. {_EXAMPLE}")
        user, password = _login(login, bool(at), shown)
        files, keepalive = _options(query, scheme, shown)
        path = _path(parts["path"], scheme, hosts, shown)
        if scheme.kind == "unix":
            return cls("", 0, user=user, password=password, kind="unix", path=path, keepalive=keepalive)
        (host, port), *more = _hosts(hosts, scheme.port, shown)
        return cls(
            host,
            port,
            tls=scheme.tls,
            user=user,
            password=password,
            kind=scheme.kind,
            path=path,
            more=tuple(more),
            keepalive=keepalive,
            **files,
        )

    @property
    def each(self) -> tuple["Address", ...]:
        """One address for each host, in the URL's order."""
        if not self.more:
            return (self,)
        return tuple(
            replace(self, host=host, port=port, more=()) for host, port in ((self.host, self.port), *self.more)
        )

    @property
    def scheme(self) -> str:
        """What the URL begins with."""
        return next(name for name, scheme in SCHEMES.items() if (scheme.kind, scheme.tls) == (self.kind, self.tls))

    @property
    def named(self) -> str:
        """How it is called in a sentence, without user and password."""
        return f"the {'brokers' if self.more else 'broker'} at {self.place}"

    @property
    def place(self) -> str:
        """Hosts and ports as they stand in a URL; of a Unix socket its path."""
        if self.kind == "unix":
            return self.path
        hosts = ((self.host, self.port), *self.more)
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        place = quote(self.path, safe="/") if self.kind == "unix" else f"{self.place}{self.path}"
        options = {"ca": self.ca, "cert": self.cert, "key": self.key, "keepalive": self.keepalive}
        query = urlencode({name: option for name, option in options.items() if option}, safe="/")
        return f"{self.scheme}://{user}{place}{'?' if query else ''}{query}"


def _login(login: str, given: bool, shown: str) -> tuple[str | None, str | None]:
    if "@" in login and "," in login:
        raise InvalidAddress(f"{shown!r}: user and password stand once, before the first host; {_ESCAPES}")
    user, colon, password = login.partition(":")
    if given and colon and not user:
        raise InvalidAddress(f"{shown!r} has a password and no user name. {_EXAMPLE}")
    return unquote(user) or None, unquote(password) if colon else None


def _hosts(text: str, default_port: int, shown: str) -> list[tuple[str, int]]:
    hosts = text.split(",")
    return [
        _host(each, default_port, f"host {number} of {len(hosts)}" if len(hosts) > 1 else "", shown)
        for number, each in enumerate(hosts, 1)
    ]


def _host(text: str, default_port: int, which: str, shown: str) -> tuple[str, int]:
    parts = _HOST.fullmatch(text)
    if parts is None:
        raise InvalidAddress(
            f"{shown!r} is not a URL: an IPv6 address stands in brackets, as in [::1]:1883. {_EXAMPLE}"
        )
    host = unquote(parts["host"]).lower()
    if not host:
        raise InvalidAddress(
            f"{shown!r}: {which} is empty. {_SEVERAL}" if which else f"{shown!r} names no host. {_EXAMPLE}"
        )
    if host.startswith("["):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except ValueError:
            raise InvalidAddress(f"{shown!r} is not a URL: [{host}] is not an IPv6 address. {_EXAMPLE}") from None
    elif not _is_name(host):
        raise InvalidAddress(f"{shown!r}: {host!r} is not a host's name. {_EXAMPLE}")
    # The port is not shown: it may be a password whose host was forgotten.
    port = parts["port"] or str(default_port)
    if not port.isascii() or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65_536:
        where = f"after {host!r} ({which})" if which else "in the broker's URL"
        raise InvalidAddress(f"The port {where} is not a number from 1 to 65535. {_EXAMPLE}; {_ESCAPES}")
    return host, int(port)


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")  # what looking it up would fail at
    except UnicodeError:
        return False
    return all(letter.isalnum() or letter in "-._" for letter in host)


def _path(path: str, scheme: _Scheme, hosts: str, shown: str) -> str:
    match scheme.kind:
        case "websocket":
            return quote(path, safe=_IN_A_PATH) or DEFAULT_PATH
        case "unix":
            if hosts:
                meant = shown.replace(f"{hosts}{path}", f"/{hosts}{path}")
                raise InvalidAddress(f"{shown!r}: a Unix socket is on no host. Did you mean {meant}?")
            decoded = unquote(path)
            if decoded in ("", "/") or "\0" in decoded:
                raise InvalidAddress(f"{shown!r} names no socket. {_EXAMPLE}")
            return decoded
        case "tcp":
            if path not in ("", "/"):
                raise InvalidAddress(
                    f"{shown!r}: nothing but options (?ca=…) may follow the port; only ws:// and wss:// have a path. "
                    f"{_EXAMPLE}"
                )
            return ""


def _options(query: str, scheme: _Scheme, shown: str) -> tuple[dict[str, str], int | None]:
    """The files for TLS, and the keepalive."""
    try:
        files = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise InvalidAddress(f"{shown!r}: what follows ? is not NAME=VALUE. {_EXAMPLE}") from None
    if unknown := sorted(files.keys() - {*_FILES, "keepalive"}):
        raise InvalidAddress(
            f"{shown!r}: unknown option {', '.join(unknown)}; there are ca, cert, key and keepalive. {_EXAMPLE}"
        )
    keepalive = _keepalive(files.pop("keepalive", None), shown)
    if files and not scheme.tls:
        secure = {"websocket": "wss://", "tcp": "mqtts://", "unix": "mqtts:// or wss://"}[scheme.kind]
        raise InvalidAddress(f"{shown!r}: {', '.join(sorted(files))} need TLS, so the URL begins with {secure}")
    if empty := sorted(name for name, file in files.items() if not file):
        raise InvalidAddress(f"{shown!r}: {', '.join(empty)} names no file. {_EXAMPLE}")
    if "key" in files and "cert" not in files:
        raise InvalidAddress(f"{shown!r}: a key needs its certificate (&cert=FILE)")
    return files, keepalive


def _keepalive(text: str | None, shown: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) in _KEEPALIVES):
        bounds = f"{_KEEPALIVES.start} to {_KEEPALIVES.stop - 1}"
        raise InvalidAddress(f"{shown!r}: keepalive is a number of seconds, {bounds}, as in ?keepalive=120")
    return int(text)


def _without_password(url: str) -> str:
    """The URL with the password cut out, also where it is not well formed."""
    scheme = re.match(r"([a-z][a-z0-9+.-]*://)?", url, re.IGNORECASE)
    beginning = scheme[0] if scheme else ""
    login, at, host = url[len(beginning) :].rpartition("@")
    return f"{beginning}{login.partition(':')[0]}{at}{host}"
