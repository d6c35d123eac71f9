"""Start a broker for development as a child process: Mosquitto where it is installed, else the embedded rumqttd.

    async with start_broker() as broker:
        print(broker.address)

Both are real brokers in processes of their own; they keep nothing on disk and ask for no password, so they belong on
loopback. A broker ends with whoever started it, however that one ends.
"""

import asyncio
import contextlib
import errno
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Final

from outrider.schema import LocalError

DEFAULT_PORT: Final = 1883
"""Where MQTT is spoken without TLS, registered with IANA."""

LOOPBACK: Final = "127.0.0.1"

MAX_PACKET_SIZE: Final = 1_048_576
"""Bytes of the largest packet that a broker started here takes."""

MOSQUITTO_SETTINGS: Final = f"""\
allow_anonymous true
persistence false
# 20 in flight (the default) are too few for speed; above 1,000 waiting, messages would be dropped without a word.
max_inflight_messages 0
max_queued_messages 100000
# message_size_limit instead would drop silently under MQTT 3.1.1.
max_packet_size {MAX_PACKET_SIZE}
set_tcp_nodelay true
"""
"""The project's configuration of Mosquitto for development, without listener and log."""

START_LIMIT: Final = 10.0
"""Seconds until a broker that was started must accept MQTT connections."""

STOP_LIMIT: Final = 5.0
"""Seconds until a broker that was asked to end is killed."""

_GUARD: Final = Path(__file__).with_name("guard.py")
_SYSTEM_DIRECTORIES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_PROTOCOL_LEVELS: Final = {"5": 5, "3.1.1": 4}
_FREE_PORT_ATTEMPTS: Final = 5


class BrokerKind(StrEnum):
    """Which broker to start; `auto` is Mosquitto where it is installed, else the embedded one."""

    AUTO = "auto"
    MOSQUITTO = "mosquitto"
    EMBEDDED = "embedded"


class BrokerNotStarted(LocalError):
    """The broker's process did not come up, or ended before it accepted MQTT connections."""


class PortTaken(BrokerNotStarted):
    """Another program listens on the port."""


class BrokerNotInstalled(BrokerNotStarted):
    """No broker to start on this machine."""


def find_mosquitto() -> str | None:
    """Return the path of Mosquitto, also where it is outside an ordinary user's PATH, or None."""
    return shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_DIRECTORIES)))


def has_embedded() -> bool:
    """Say whether the embedded broker (the extra `broker`) is installed."""
    return importlib.util.find_spec("iotcore") is not None


def is_loopback(host: str) -> bool:
    """Say whether nobody outside this machine reaches `host`, a name or an address.

    :raises BrokerNotStarted: the name does not resolve.
    """
    return ip_address(_resolve(host)).is_loopback


async def answers(host: str, port: int) -> bool:
    """Say whether an MQTT broker answers there now, in either version of the protocol.

    :raises BrokerNotStarted: the name does not resolve.
    """
    address = _resolve(host)
    return any(await asyncio.gather(*(_accepts(address, port, version) for version in _PROTOCOL_LEVELS)))


class BrokerProcess:
    """One broker in a process of its own; `start_broker` makes it.

    `kind` is `mosquitto` or `embedded`. `host` is the numeric address it listens on. `ports` tells which port speaks
    which protocol version (`"5"`, `"3.1.1"`): both the same on Mosquitto, two on the embedded broker, which drops a
    client of the other version.
    """

    def __init__(self, kind: BrokerKind, host: str, ports: Mapping[str, int], *, verbose: bool = False) -> None:
        self.kind = kind
        self.host = host
        self.ports: Final[Mapping[str, int]] = dict(ports)
        self._verbose = verbose
        self._guard: asyncio.subprocess.Process | None = None
        self._pid: int | None = None
        self._log: IO[bytes] | None = None

    @property
    def address(self) -> str:
        """The URL for outrider's own clients, who speak MQTT 5 by preference."""
        return self.address_for("5")

    def address_for(self, version: str) -> str:
        """Return the URL at which the protocol version (`"5"` or `"3.1.1"`) is spoken."""
        return f"mqtt://{_bracketed(self.client_host)}:{self.ports[version]}"

    @property
    def client_host(self) -> str:
        """The numeric address at which clients on this machine reach it: loopback where it listens everywhere."""
        return _reachable(self.host)

    @property
    def running(self) -> bool:
        """Whether the broker's process is there."""
        return self._guard is not None and self._guard.returncode is None

    @property
    def pid(self) -> int:
        """The broker's own process id.

        :raises BrokerNotStarted: it is not running.
        """
        if self._pid is None or not self.running:
            raise BrokerNotStarted(f"the broker at {self.address} is not running: start it first")
        return self._pid

    async def start(self) -> None:
        """Start the process and return once it accepts MQTT connections on every port.

        :raises PortTaken: another program listens there.
        :raises BrokerNotStarted: it is already running, or it ended or stayed silent instead; the message has the end
            of its log.
        """
        if self.running:
            raise BrokerNotStarted(f"the broker at {self.address} is already running: stop it first")
        for port in sorted(set(self.ports.values())):
            await _check_free(self.host, port)
        self._close_log()
        if not self._verbose:
            self._log = tempfile.TemporaryFile(prefix="outrider-broker-")  # noqa: SIM115 - `stop` closes it
        # The configuration is read once, at the start, and then out of the way, so that no crash leaves it behind.
        with tempfile.TemporaryDirectory(prefix="outrider-broker-") as directory:
            self._guard = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_GUARD), *self._program(Path(directory))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._log,
                # Ctrl-C in the terminal is for us; we end the broker when we are done.
                start_new_session=True,
            )
            try:
                await self._until_answering(self._guard)
            except BaseException:
                await self.stop()
                raise

    async def stop(self) -> None:
        """End the process (SIGTERM, after a bound SIGKILL) and return when it is gone. May be called twice."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            # The pipe may still be open in a child that somebody forked from us, so a signal as well. The guard
            # forwards it from the moment it has told the process id.
            if self._pid is not None:
                self._signal(self._guard.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_LIMIT):
                    await self._guard.wait()
            except TimeoutError:
                if self._pid is not None:
                    self._signal(self._pid, signal.SIGKILL)
                self._signal(self._guard.pid, signal.SIGKILL)
            await self._gone(self._guard)
        self._close_log()

    async def kill(self) -> None:
        """Kill the process with SIGKILL, as a crash would, and return when it is gone."""
        if self._guard is not None:
            if self._pid is not None:
                self._signal(self._pid, signal.SIGKILL)
            await self._gone(self._guard)

    async def restart(self) -> None:
        """Stop and start again on the same ports. Sessions and retained messages are lost."""
        await self.stop()
        await self.start()

    async def deaf(self) -> bool:
        """Say whether the process runs and takes no connections on one of its ports any more.

        rumqttd gets there when one of its threads panics, which the takeover of a client id can bring
        about: `restart` helps.
        It is asked only after a panic in its log, since there a connection that ends may take another one with it; with
        `verbose` the log is not here to be read, and it is always asked.
        """
        if self.kind is BrokerKind.MOSQUITTO or not self.running or (self._log is not None and not self._panicked()):
            return False
        accepted = await asyncio.gather(*(_accepts(self.host, port, version) for version, port in self.ports.items()))
        return not all(accepted)

    async def wait(self) -> int:
        """Wait until the process ends and return its exit code, 128 + n where signal n ended it.

        :raises BrokerNotStarted: it is not running.
        """
        if self._guard is None:
            raise BrokerNotStarted(f"the broker at {self.address} is not running: start it first")
        return await self._guard.wait()

    def log_tail(self, lines: int = 5) -> str:
        """Return the last lines of the broker's log; empty where it went to standard error."""
        if self._log is None:
            return ""
        # pread: the process writes at the same file offset.
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 4096, max(0, size - 4096)).decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _panicked(self) -> bool:
        return self._log is not None and b"panicked at" in os.pread(self._log.fileno(), 1 << 20, 0)

    def _program(self, directory: Path) -> tuple[str, ...]:
        if self.kind is BrokerKind.MOSQUITTO:
            mosquitto = find_mosquitto()
            if mosquitto is None:
                raise _not_installed(self.kind)
            configuration = directory / "mosquitto.conf"
            configuration.write_text(_mosquitto_configuration(self.host, self.ports["5"], verbose=self._verbose))
            return (mosquitto, "-c", str(configuration))
        # rumqttd tells the format by the suffix.
        configuration = directory / "rumqttd.toml"
        configuration.write_text(_rumqttd_configuration(self.host, self.ports))
        # At any lower level rumqttd logs a record for each packet.
        level = "DEBUG" if self._verbose else "CRITICAL"
        return (sys.executable, "-P", "-m", "iotcore", "--config", str(configuration), "--log-level", level)

    async def _until_answering(self, guard: asyncio.subprocess.Process) -> None:
        assert guard.stdout is not None
        try:
            async with asyncio.timeout(START_LIMIT):
                self._pid = int(await guard.stdout.readline() or b"0") or None
                for version, port in self.ports.items():
                    # Nothing but asking tells when a broker listens.
                    while guard.returncode is None and not await _accepts(self.host, port, version):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
        except TimeoutError:
            raise BrokerNotStarted(self._failure(f"did not accept MQTT connections within {START_LIMIT:g} s")) from None
        # Both brokers end when they cannot have their port, so what answered is ours if the process is still there.
        if guard.returncode is not None:
            for port in set(self.ports.values()):
                await _check_free(self.host, port)
            raise BrokerNotStarted(self._failure(f"ended with exit code {guard.returncode}"))

    def _failure(self, what: str) -> str:
        log = self.log_tail()
        return f"the {self.kind} broker for {self.address} {what}" + (f"; its log ends:\n{log}" if log else "")

    def _signal(self, pid: int, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _gone(self, guard: asyncio.subprocess.Process) -> None:
        assert guard.stdout is not None
        await guard.stdout.read()
        await guard.wait()
        self._guard = self._pid = None

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


@contextlib.asynccontextmanager
async def start_broker(
    port: int | None = None,
    kind: BrokerKind = BrokerKind.AUTO,
    host: str = LOOPBACK,
    *,
    verbose: bool = False,
) -> AsyncGenerator[BrokerProcess]:
    """Run a broker as long as the block lasts.

    `port` speaks MQTT 5, and on Mosquitto 3.1.1 too; the embedded broker speaks 3.1.1 on the port after it. Without
    `port` (None or 0) free ones are found. `host` is where it listens, a name or an address. `verbose` sends the
    broker's log to standard error.

    :raises BrokerNotInstalled: the kind asked for, or with `auto` any, is not on this machine.
    :raises PortTaken: another program listens on the port.
    :raises BrokerNotStarted: the host is not this machine's, or the broker failed; the message has the end of its log.
    """
    kind, address = _choose(kind), _resolve(host)
    attempts = 1 if port else _FREE_PORT_ATTEMPTS
    broker = await _start(kind, address, port, verbose, attempts)
    try:
        yield broker
    finally:
        await broker.stop()


async def _start(kind: BrokerKind, address: str, port: int | None, verbose: bool, attempts: int) -> BrokerProcess:
    broker = BrokerProcess(kind, address, _ports(kind, address, port), verbose=verbose)
    try:
        await broker.start()
    except PortTaken:
        # Somebody took the free port between our look and the broker's: look for another.
        if attempts == 1:
            raise
        return await _start(kind, address, port, verbose, attempts - 1)
    return broker


def _choose(kind: BrokerKind) -> BrokerKind:
    if kind in (BrokerKind.AUTO, BrokerKind.MOSQUITTO) and find_mosquitto():
        return BrokerKind.MOSQUITTO
    if kind in (BrokerKind.AUTO, BrokerKind.EMBEDDED) and has_embedded():
        return BrokerKind.EMBEDDED
    raise _not_installed(kind)


def _not_installed(kind: BrokerKind) -> BrokerNotInstalled:
    ways = {
        BrokerKind.MOSQUITTO: "install Mosquitto (`apt install mosquitto`)",
        BrokerKind.EMBEDDED: "install the embedded broker (`pip install 'outrider-controller[broker]'`)",
    }
    if kind in ways:
        return BrokerNotInstalled(f"the {kind} broker is not installed on this machine: {ways[kind]}")
    return BrokerNotInstalled(f"no broker is installed on this machine: {', or '.join(ways.values())}")


def _ports(kind: BrokerKind, address: str, port: int | None) -> dict[str, int]:
    first = port or _free_port(address)
    if kind is BrokerKind.MOSQUITTO:
        return {"5": first, "3.1.1": first}
    second = first + 1 if port else _free_port(address)
    if second > 65535:
        raise BrokerNotStarted("the embedded broker needs the port after the one given, too: give one below 65535")
    return {"5": first, "3.1.1": second}


def _mosquitto_configuration(host: str, port: int, *, verbose: bool) -> str:
    log = ("error", "warning", "notice") if verbose else ("error", "warning")
    lines = [f"listener {port} {host}", "log_dest stderr", *(f"log_type {level}" for level in log)]
    return "\n".join(lines) + "\n" + MOSQUITTO_SETTINGS


def _rumqttd_configuration(host: str, ports: Mapping[str, int]) -> str:
    # rumqttd keeps the last segments of every topic filter in memory, read or not. With dynamic_filters off it would
    # disconnect whoever publishes to a topic without a subscriber.
    listeners = [
        f"""
[{table}.1]
name = "{table}"
listen = "{_bracketed(host)}:{ports[version]}"
next_connection_delay_ms = 0
[{table}.1.connections]
connection_timeout_ms = 60000
max_payload_size = {MAX_PACKET_SIZE}
max_inflight_count = 100
dynamic_filters = true
"""
        for version, table in (("3.1.1", "v4"), ("5", "v5"))
    ]
    router = """\
id = 0
[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = 4194304
max_segment_count = 8
"""
    return router + "".join(listeners)


def _resolve(host: str) -> str:
    """Return the numeric address of `host`, IPv4 where there is one: rumqttd listens on one address only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BrokerNotStarted(f"no address for the host {host!r}: {error}; try --host {LOOPBACK}") from None
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _reachable(address: str) -> str:
    """Return where a listener is reached from this machine: one on all interfaces, on loopback."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address)


def _free_port(address: str) -> int:
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


async def _check_free(address: str, port: int) -> None:
    where = f"{_bracketed(_reachable(address))}:{port}"
    try:
        with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
            # As the brokers do: connections of an earlier listener that are still winding down are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise BrokerNotStarted(
                f"cannot listen on {where}: {error.strerror}; choose other --host or --port"
            ) from None
    else:
        return
    if any(await asyncio.gather(*(_accepts(address, port, version) for version in _PROTOCOL_LEVELS))):
        use = f"an MQTT broker answers there: use it (--broker mqtt://{where}), or start another with --port"
        raise PortTaken(f"{where} is taken, {use}")
    raise PortTaken(f"{where} is taken, and not by an MQTT broker: choose another port with --port")


async def _accepts(address: str, port: int, version: str) -> bool:
    """Say whether an MQTT connection of this version is accepted now.

    By hand, in two packets: paho would need a thread to say it, and our own connection falls back to the other version.
    """
    name = f"outrider-probe-{secrets.token_hex(4)}".encode()
    level = _PROTOCOL_LEVELS[version]
    properties = b"\0" if level == 5 else b""
    # Clean start, keep-alive 10 s (rumqttd refuses 0), no properties; MQTT 5 section 3.1.
    body = b"\0\4MQTT" + bytes((level, 2, 0, 10)) + properties + len(name).to_bytes(2) + name
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(_reachable(address), port)
            try:
                writer.write(b"\x10" + bytes((len(body),)) + body)
                # CONNACK: type, length, flags, and 0 for success.
                answer = await reader.readexactly(4)
                writer.write(b"\xe0\0")
                return answer[0] == 0x20 and answer[3] == 0
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
