"""How the socket under paho is opened: by asyncio, without blocking the loop; TCP, TLS, WebSocket and Unix sockets."""

import asyncio
import errno
import importlib
import re
import socket
import ssl
import stat
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from outrider.schema.errors import InvalidAddress

from .address import Address
from .stream import BufferedSocket, Refusal

_TLS_SHUTDOWN = 1.0
_SECOND_FAMILY = 0.25
"""Seconds until the next of a host's addresses is tried beside one that does not answer (RFC 8305)."""


def prepare(address: Address) -> None:
    """Load what connections to `address` need beyond the ordinary, so that no connecting has to wait for it.

    :raises InvalidAddress: it needs a library that is not installed, or sockets that this system does not have.
    """
    if address.kind == "websocket":
        try:
            importlib.import_module(".websocket", __package__)  # an extra of the distribution, and it takes its time
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "websockets":
                raise
            raise InvalidAddress(
                f"{address} needs the package websockets: pip install 'outrider-device[websocket]', "
                "or use the broker's mqtt:// listener"
            ) from None
    if address.kind == "unix" and not hasattr(socket, "AF_UNIX"):
        raise InvalidAddress(f"{address}: this system has no Unix sockets, use the broker's mqtt:// listener")


async def open_socket(address: Address, *, tls: ssl.SSLContext | None = None, timeout: float) -> BufferedSocket:
    """Connect to `address` within `timeout` seconds and without blocking the loop.

    It returns after the TLS handshake and that of the WebSocket, where there are such. `tls` replaces the context that
    would be made from the address's files. Of several hosts only the first is tried.

    :raises OSError: no connection, or a handshake failed; `reason_of` puts it into words.
    :raises TimeoutError: nothing within `timeout`.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        if address.kind == "unix":
            return (await loop.create_unix_connection(BufferedSocket, address.path))[1]
        context = None
        if address.tls:
            # In a thread: loading the system's authorities takes tens of milliseconds.
            context = tls or await loop.run_in_executor(None, _context, address)
        opened: BufferedSocket
        _, opened = await loop.create_connection(
            _websocket(address) if address.kind == "websocket" else BufferedSocket,
            address.host,
            address.port,
            ssl=context,
            server_hostname=None if context is None else address.host,
            ssl_handshake_timeout=None if context is None else timeout,
            ssl_shutdown_timeout=None if context is None else _TLS_SHUTDOWN,
            # A race that is cancelled the moment somebody wins it leaves that one's socket open (CPython).
            happy_eyeballs_delay=None if _is_number(address.host) else _SECOND_FAMILY,
        )
        try:
            await opened.ready()
        except BaseException:
            opened.abort()
            raise
    return opened


def _is_number(host: str) -> bool:
    """Whether it is an IP address, so that there is no other one to try beside it."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def reason_of(error: Exception | None, address: Address) -> str:
    """Why a connection could not be opened or has ended, in words that fit after a colon."""
    match error:
        case None:
            return "the broker closed the connection"
        case Refusal():
            return str(error)
        case TimeoutError():
            return "it does not answer"
        case socket.gaierror():
            return f"no such host as {address.host}"
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not trusted ({error.verify_message}): name its authority with ?ca=FILE"
        case ssl.SSLError() if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            plain = "mqtt" if address.kind == "tcp" else "ws"
            return f"it does not speak TLS on this port: use {plain}://, or the port of its TLS listener"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error})"
        case FileNotFoundError() | PermissionError() | IsADirectoryError() if error.filename is not None:
            return f"cannot read {error.filename} ({error.strerror})"
        case OSError() if address.kind == "unix" and (said := _reason_of_path(error, address.path)):
            return said
        case OSError():
            return _reason_of_code(error)
        case _:
            return str(error) or type(error).__name__


def _reason_of_code(error: OSError) -> str:
    code = error.errno
    if code is None and (listed := re.search(r"\[Errno (\d+)\]", str(error))):  # "Multiple exceptions: …" of asyncio
        code = int(listed[1])
    match code:
        case errno.ECONNREFUSED:
            return "nothing listens there (connection refused)"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return "no route to it"
        case errno.ECONNRESET | errno.EPIPE:
            return "the broker cut the connection"
        case errno.ETIMEDOUT:
            return "it does not answer"
        case _:
            return str(error) or type(error).__name__


def _reason_of_path(error: OSError, path: str) -> str | None:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return "there is no such file; in Mosquitto it takes `listener 0 PATH`"
        case errno.EACCES | errno.EPERM:
            return "permission denied: this user may not write to it, or not enter a folder above it"
        case errno.ECONNREFUSED if not _is_socket(path):
            return "it is not a socket"
        case None:
            return f"it cannot be the path of a socket ({error})"
        case _:
            return None


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:  # gone in the meantime
        return True


def _websocket(address: Address) -> Callable[[], BufferedSocket]:
    from .websocket import WebSocket  # see `prepare`

    return lambda: WebSocket(address)


def _context(address: Address) -> ssl.SSLContext:
    for file in (address.ca, address.cert, address.key):
        if file is not None:  # ssl's own FileNotFoundError does not say which
            with open(file, "rb"):  # noqa: PTH123
                pass
    context = ssl.create_default_context(cafile=address.ca)
    if address.cert is not None:
        context.load_cert_chain(address.cert, address.key)
    return context
