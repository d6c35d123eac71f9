"""Reaching anybody: no socket leads out of the sandbox, not even to the same machine."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.security.sandbox.host import Outcome
from tests.security.sandbox.hosts import Host

Runner = Callable[..., Outcome]

TRY = """
import os, socket, sys
def attempt(family, kind, address, name):
    try:
        with socket.socket(family, kind) as one:
            one.settimeout(2)
            one.connect(address)
            one.send(b"out")
            print("reached", name)
    except OSError as error:
        print("refused", name, file=sys.stderr)
tcp, udp, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
"""


class Listeners:
    """Everything on this machine that waits for somebody."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._sockets = [stack.enter_context(self._bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)))]
        self._sockets.append(stack.enter_context(self._bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))))
        self.tcp, self.udp = (one.getsockname()[1] for one in self._sockets)
        self.path = str(folder / "socket")
        for address in (self.path, "\0" + self.path):
            self._sockets.append(stack.enter_context(self._bound(socket.AF_UNIX, socket.SOCK_STREAM, address)))
            self._sockets.append(
                stack.enter_context(self._bound(socket.AF_UNIX, socket.SOCK_DGRAM, address + "-dgram"))
            )
        for name in ("socket", "socket-dgram"):
            (folder / name).chmod(0o777)

    def _bound(self, family: int, kind: int, address: object) -> socket.socket:
        made = socket.socket(family, kind)
        made.bind(address)  # type: ignore[arg-type]  # of either family
        made.setblocking(False)
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    def reached(self) -> bool:
        """Whether anybody came."""
        for one in self._sockets:
            try:
                if one.type == socket.SOCK_STREAM:
                    one.accept()[0].close()
                else:
                    one.recv(100)
            except BlockingIOError:
                continue
            return True
        return False

    def knock(self) -> Iterator[None]:
        """Come to each in turn, from outside of any sandbox."""
        for one in self._sockets:
            with socket.socket(one.family, one.type) as other:
                other.connect(one.getsockname())
                other.send(b"in")
                yield


@pytest.fixture
def listeners(host: Host) -> Iterator[Listeners]:
    folder = host.folder / "listeners"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    for path in folder.iterdir():
        path.unlink()
    with ExitStack() as stack:
        made = Listeners(folder, stack)
        for _ in made.knock():
            assert made.reached()
        yield made


def test_network_and_loopback_are_out_of_reach(run: Runner, listeners: Listeners) -> None:
    source = f"""{TRY}
attempt(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", tcp), "loopback")
attempt(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", udp), "loopback by datagram")
attempt(socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:127.0.0.1", tcp), "loopback mapped")
attempt(socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80), "far away")
attempt(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53), "far away by datagram")
"""
    outcome = run(source, listeners.tcp, listeners.udp, listeners.path)
    assert not listeners.reached()
    # A datagram into the sandbox's own loopback is sent, and reaches nobody.
    assert outcome.stdout in ("", "reached loopback by datagram\n")
    assert outcome.stderr.count("refused") + len(outcome.stdout.splitlines()) == 5


def test_local_sockets_are_out_of_reach(run: Runner, listeners: Listeners) -> None:
    source = f"""{TRY}
for address in (path, "\\0" + path):
    attempt(socket.AF_UNIX, socket.SOCK_STREAM, address, address)
    attempt(socket.AF_UNIX, socket.SOCK_DGRAM, address + "-dgram", address)
"""
    outcome = run(source, listeners.tcp, listeners.udp, listeners.path)
    assert not listeners.reached()
    assert (outcome.stdout, outcome.stderr.count("refused")) == ("", 4)


def test_pair_of_sockets_reaches_nobody_else(run: Runner, listeners: Listeners) -> None:
    source = f"""{TRY}
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
    for address in (path + "-dgram", "\\0" + path + "-dgram", path):
        try:
            one, other = socket.socketpair(socket.AF_UNIX, kind)
            try: one.connect(address)
            except OSError: pass
            one.sendto(b"out", address)
        except OSError as error: pass
one, other = socket.socketpair()
one.send(b"in"); print(other.recv(2))
"""
    outcome = run(source, listeners.tcp, listeners.udp, listeners.path)
    assert not listeners.reached()
    assert outcome.stdout == "b'in'\n"


@pytest.mark.parametrize(
    "family", ["AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_VSOCK", "AF_BLUETOOTH", "AF_CAN", "AF_KEY"]
)
def test_other_kinds_of_sockets_are_denied(run: Runner, family: str) -> None:
    source = (
        "import socket, sys\ntry: socket.socket(int(sys.argv[1]), socket.SOCK_RAW)\nexcept OSError as e: print(e.errno)"
    )
    number = int(getattr(socket, family, 15))
    assert run(source, number).stdout == "1\n"


def test_granted_network_reaches_the_machine_and_no_local_socket(run: Runner, listeners: Listeners) -> None:
    source = f"""{TRY}
attempt(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", tcp), "loopback")
attempt(socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + path, "abstract")
"""
    outcome = run(source, listeners.tcp, listeners.udp, listeners.path, network=True)
    assert outcome.stdout == "reached loopback\n"
    assert listeners.reached()
