"""Which broker, which prefix, who asks: options first, then the environment, then the configuration file."""

import getpass
import os
import socket
import tomllib
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_config_path

from outrider.device import Address
from outrider.schema import InvalidAddress, LocalError, to_name

DEFAULT_BROKER = "mqtt://localhost:1883"


class InvalidSettings(LocalError):
    """The configuration file cannot be used."""


class Settings(NamedTuple):
    """`requester` is None where nothing names one; then it is user-host. `hub` is None where no hub is to be asked."""

    broker: str
    prefix: str
    requester: str | None
    hub: str | None = None


def config_path() -> Path:
    """Where the configuration file stands: `outrider/config.toml` under the user's configuration folder."""
    return user_config_path("outrider") / "config.toml"


def load(
    *, broker: str | None = None, prefix: str | None = None, requester: str | None = None, hub: str | None = None
) -> Settings:
    """What an option says, else OUTRIDER_BROKER, OUTRIDER_PREFIX, OUTRIDER_NAME, OUTRIDER_HUB, else the file.

    With broker credentials the requester is the broker's user name, whatever the environment says: an access control
    list holds every user to their own. The file is TOML with the keys `broker`, `prefix`, `name` and `hub`, all
    optional.

    :raises InvalidSettings: the file is there and cannot be read.
    :raises InvalidAddress: the broker's URL cannot be used; it says where that stands, if it is not the option's.
    """
    file = _file(config_path())
    where, broker = _broker(broker, file)
    try:
        user = Address.parse(broker).user
    except InvalidAddress as error:
        raise InvalidAddress(f"{where}{error}") from None
    return Settings(
        broker,
        prefix if prefix is not None else os.environ.get("OUTRIDER_PREFIX", file.get("prefix", "")),
        requester or (to_name(user) if user else os.environ.get("OUTRIDER_NAME") or file.get("name")),
        hub or os.environ.get("OUTRIDER_HUB") or file.get("hub"),
    )


def default_requester(username: str | None) -> str:
    """Who asks where nobody said: the broker's user name, else OUTRIDER_NAME, else user-host."""
    return to_name(username or os.environ.get("OUTRIDER_NAME") or f"{_user()}-{socket.gethostname()}")


def _broker(option: str | None, file: dict[str, str]) -> tuple[str, str]:
    """Where the broker's URL stands, in words that fit before an error, and the URL."""
    if option:
        return "", option
    if url := os.environ.get("OUTRIDER_BROKER"):
        return "OUTRIDER_BROKER: ", url
    if url := file.get("broker"):
        return f"{config_path()}: broker = ", url
    return "", DEFAULT_BROKER


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return f"uid{os.getuid()}"


def _file(path: Path) -> dict[str, str]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidSettings(f"the configuration file {path} cannot be read: {error.strerror}") from error
    try:
        content = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"the configuration file {path} is not TOML: {error}") from error
    for key, value in content.items():
        if key not in ("broker", "prefix", "name", "hub") or not isinstance(value, str):
            raise InvalidSettings(f'{path}: {key} = {value!r}: write broker, prefix, name or hub = "…"')
    return content
