"""Where the broker is and how to reach it, as one URL: `mqtt://user:password@host:port` or `mqtts://…`."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from outrider.schema.errors import InvalidAddress

DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}

_EXAMPLE = "Write it as mqtt://localhost:1883 or mqtts://user:password@broker.example:8883?ca=ca.pem"
_SCHEMES_ELSEWHERE = {"tcp": "mqtt", "mqtt+tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts", "mqtt+ssl": "mqtts"}


@dataclass(frozen=True, slots=True)
class Address:
    """A broker's host and port, with what is needed to be let in. Neither `str()` nor `repr()` shows the password.

    `ca`, `cert` and `key` are paths of PEM files, for TLS only. Without `ca` the system's authorities are trusted.
    """

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read a broker URL. Port 1883 is the default for `mqtt`, 8883 for `mqtts`.

        User and password are percent-decoded; `mqtts` takes `?ca=FILE&cert=FILE&key=FILE`.

        :raises InvalidAddress: it says what is wrong and shows an example, never the password.
        """
        shown = _without_password(url)
        if "://" not in url:
            raise InvalidAddress(f"{shown!r} is not a broker's URL: did you mean mqtt://{shown}?")
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise InvalidAddress(f"{shown!r} is not a URL: {error}. {_EXAMPLE}") from None
        if parts.scheme not in DEFAULT_PORTS:
            meant = _SCHEMES_ELSEWHERE.get(parts.scheme)
            hint = f"Did you mean {meant}://{shown.partition('://')[2]}?" if meant else _EXAMPLE
            raise InvalidAddress(f"{shown!r}: {parts.scheme}:// is not spoken here. {hint}")
        # The port is not shown: after an unescaped / ? or # in a password it holds a piece of it.
        try:
            port = parts.port
        except ValueError:
            port = 0
        if port == 0:
            raise InvalidAddress(
                f"The port in the broker's URL is not a number from 1 to 65535. {_EXAMPLE}; in a user name or password "
                "write / as %2F, ? as %3F, # as %23, @ as %40 and : as %3A"
            )
        if not parts.hostname:
            raise InvalidAddress(f"{shown!r} names no host. {_EXAMPLE}")
        if parts.path not in ("", "/") or parts.fragment:
            raise InvalidAddress(f"{shown!r}: nothing but options (?ca=…) may follow the port. {_EXAMPLE}")
        user = unquote(parts.username) if parts.username else None
        password = None if parts.password is None else unquote(parts.password)
        if password is not None and user is None:
            raise InvalidAddress(f"{shown!r} has a password and no user name. {_EXAMPLE}")
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port or DEFAULT_PORTS[parts.scheme],
            tls=tls,
            user=user,
            password=password,
            **_files(parts.query, tls, shown),
        )

    @property
    def place(self) -> str:
        """Host and port as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        scheme = "mqtts" if self.tls else "mqtt"
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        files = {"ca": self.ca, "cert": self.cert, "key": self.key}
        query = urlencode({name: file for name, file in files.items() if file}, safe="/")
        return f"{scheme}://{user}{self.place}{'?' if query else ''}{query}"


def _files(query: str, tls: bool, shown: str) -> dict[str, str]:
    try:
        files = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise InvalidAddress(f"{shown!r}: what follows ? is not NAME=FILE. {_EXAMPLE}") from None
    if unknown := sorted(files.keys() - {"ca", "cert", "key"}):
        raise InvalidAddress(f"{shown!r}: unknown option {', '.join(unknown)}; there are ca, cert and key. {_EXAMPLE}")
    if files and not tls:
        raise InvalidAddress(f"{shown!r}: {', '.join(sorted(files))} need TLS, so the URL begins with mqtts://")
    if empty := sorted(name for name, file in files.items() if not file):
        raise InvalidAddress(f"{shown!r}: {', '.join(empty)} names no file. {_EXAMPLE}")
    if "key" in files and "cert" not in files:
        raise InvalidAddress(f"{shown!r}: a key needs its certificate (&cert=FILE)")
    return files


def _without_password(url: str) -> str:
    """The URL with the password cut out, also where it is not well formed."""
    scheme, separator, rest = url.rpartition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{host}"
