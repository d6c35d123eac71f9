"""A child process of the device: started with pipes, held at a gate, fed, read, and waited for.

Not asyncio's: that has a thread for each child before 3.12, and forks the device's whole memory to change the user.
"""

import asyncio
import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Final, Self

from .contract import STREAMS, Stream
from .run import Launch, SandboxFailed

Output = Callable[[Stream, bytes], Awaitable[None] | None]

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GATE: Final = 3
LOWEST: Final = 16
"""Descriptors are moved above this before a start, so that none stands where another one shall be."""
CHUNK: Final = 65536
WORDS: Final = 4096
SOFT: Final = 5.0
"""Seconds that one that was told to give up gets to do so."""


class Child:
    """A child of the device; its context closes what belongs to it, and must be left only when it has ended."""

    def __init__(self, pid: int, descriptor: int, gate: socket.socket, pipes: dict[str, int]) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._gate = gate
        self._pipes = pipes
        self.exit_code: int | None = None

    @classmethod
    def start(cls, launch: Launch) -> Self:
        """Start it, in a process group of its own."""
        program = shutil.which(launch.arguments[0], path=PATH)
        if program is None:
            raise SandboxFailed(f"{launch.arguments[0]} is not installed")
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as kept:
            ours, theirs = socket.socketpair()
            kept.enter_context(ours)
            stack.enter_context(theirs)
            pipes: dict[str, int] = {}
            inherited: dict[int, int] = {GATE: theirs.fileno()}
            for number, name in enumerate(("stdin", "stdout", "stderr")):
                reading, writing = os.pipe()
                inherited[number], pipes[name] = (reading, writing) if name == "stdin" else (writing, reading)
                stack.callback(os.close, inherited[number])
                kept.callback(os.close, pipes[name])
                os.set_blocking(pipes[name], False)
                if launch.user is not None:  # else it could not open /dev/stdout
                    os.fchown(inherited[number], launch.user, -1)
            inherited |= enumerate(launch.descriptors, GATE + 1)
            ours.setblocking(False)
            moved: list[tuple[int, int, int]] = []
            for number, descriptor in inherited.items():
                above = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST)
                stack.callback(os.close, above)
                moved.append((os.POSIX_SPAWN_DUP2, above, number))
            closed = [
                (os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable() if descriptor not in inherited
            ]
            pid = os.posix_spawn(
                program,
                list(launch.arguments),
                {"PATH": PATH},
                file_actions=[*closed, *moved],
                setpgroup=0,  # else Ctrl-C would reach it before the device
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD],
            )
            try:
                itself = os.pidfd_open(pid)
            except OSError:  # there are no descriptors left, and nobody could wait for it
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            kept.pop_all()
        return cls(pid, itself, ours, pipes)

    async def stands(self) -> None:
        """Wait until it says that the sandbox stands.

        :raises SandboxFailed: it has ended instead; its words are in the message.
        """
        try:
            said = await asyncio.get_running_loop().sock_recv(self._gate, 1)
        except ConnectionResetError:
            said = b""
        if not said:
            words = bytearray()
            await self.read("stderr", lambda _, data: words.extend(data[: WORDS - len(words)]))
            raise SandboxFailed(f"the sandbox could not be built: {words.decode(errors='replace').strip()}")

    def go(self) -> None:
        """Let it go on to the script."""
        with contextlib.suppress(BrokenPipeError):
            self._gate.send(b"\n")

    def give_up(self) -> None:
        """Close the gate: what stands before it ends, and a guard behind it kills what it guards."""
        self._gate.close()

    async def ended(self) -> int:
        """Wait for its end and return its exit code, as a shell has it."""
        await readable(self._descriptor)
        return self._reap()

    def wait(self, seconds: float) -> tuple[int, str]:
        """Wait for its end outside of any event loop, and return its exit code and the beginning of its stderr."""
        poll = select.poll()  # select takes no descriptor above 1,023
        poll.register(self._descriptor, select.POLLIN)
        ended = poll.poll(seconds * 1000)
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        self._reap()
        try:
            words = os.read(self._pipes["stderr"], WORDS)
        except BlockingIOError:  # somebody else has it open still
            words = b""
        return self._reap(), words.decode(errors="replace").strip() or ("" if ended else f"no end in {seconds:g} s")

    def _reap(self) -> int:
        if self.exit_code is None:
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self.exit_code = code if code >= 0 else 128 - code
        return self.exit_code

    async def abandon(self) -> None:
        """See to its end before it has passed the gate."""
        self.give_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOFT):
                await readable(self._descriptor)
        if self.exit_code is None:  # it has not been waited for: the number is still its own, and that of its group
            with contextlib.suppress(PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGKILL)
        await self.ended()
        # What it has started has these as well, and ends with it or just after it; others wait for that meanwhile.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOFT):
                for stream in STREAMS:
                    if stream in self._pipes:
                        await self.read(stream, lambda _stream, _data: None)

    async def feed(self, data: bytes) -> None:
        """Write to its stdin and close that; it may close it before."""
        descriptor = self._pipes["stdin"]
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(descriptor, view) :]
                except BlockingIOError:
                    await writable(descriptor)
        except BrokenPipeError:
            pass
        finally:
            self._close("stdin")

    async def read(self, stream: Stream, output: Output) -> None:
        """Hand on what it writes, until nobody holds the stream any more."""
        descriptor = self._pipes[stream]
        while True:
            try:
                data = os.read(descriptor, CHUNK)
            except BlockingIOError:
                await readable(descriptor)
                continue
            if not data:
                self._close(stream)
                return
            waiting = output(stream, data)
            if waiting is not None:
                await waiting
            else:
                await asyncio.sleep(0)

    def _close(self, name: str) -> None:
        os.close(self._pipes.pop(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.close()
        for name in list(self._pipes):
            self._close(name)
        os.close(self._descriptor)


def _inheritable() -> list[int]:
    """What this process got from who started it, or a library opened, and a script must not get."""
    found: list[int] = []
    for path in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):  # the folder's own descriptor is closed by now
            if os.get_inheritable(int(path.name)):
                found.append(int(path.name))
    return found


@contextlib.contextmanager
def readable_once(content: bytes) -> Generator[int]:
    """A descriptor from which a child reads that."""
    descriptor = os.memfd_create("outrider")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, or, of a pidfd, until its process has ended."""
    loop = asyncio.get_running_loop()
    await _event(descriptor, loop.add_reader, loop.remove_reader)


async def writable(descriptor: int) -> None:
    """Wait until a pipe takes more."""
    loop = asyncio.get_running_loop()
    await _event(descriptor, loop.add_writer, loop.remove_writer)


async def _event(
    descriptor: int, add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], bool]
) -> None:
    happened = asyncio.Event()
    add(descriptor, happened.set)
    try:
        await happened.wait()
    finally:
        remove(descriptor)
