"""Running one script in a sandbox: its start, its output, the watch over its limits, and that nothing of it is left."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Generator
from typing import Final

from . import limits, quota
from .cgroups import PROCESSES, Group, delegated
from .child import Child, Output, readable
from .endings import to_the_end
from .limits import Held, Used
from .run import Ended, Launch, Run, Sandbox, SandboxFailed, Tree
from .tree import Watch, members
from .turns import Pace, Turns

START: Final = 30.0
"""Seconds within which a sandbox stands, also where many are started at once."""
FIRST_LOOK: Final = 0.005
LOOK: Final = 0.05
"""Seconds between two looks at what a script uses; the first come sooner, for one that ends soon."""
SHARE: Final = 10
"""A look that takes long is followed by a pause as long as that many of it."""
LOOKS: Final = Turns(1)
"""At the processes of all scripts: many with many processes each leave the event loop to others as well."""
WALKS: Final = Turns(2)
"""Through workspaces: each holds a descriptor for each level of folders."""


async def execute(sandbox: Sandbox, run: Run, output: Output) -> Ended:
    """Run it to its end, and hand on what it writes.

    While `output` is awaited nothing more is read of that stream, and the script waits once the pipe is full. When
    cancelled, or if `output` raises: everything is killed, and is gone before this raises.

    :raises SandboxFailed: the sandbox could not be built; the script has not been started.
    """
    async with contextlib.AsyncExitStack() as stack:
        async with sandbox.starts:
            launch = await stack.enter_async_context(_launch(sandbox, run))
            child = stack.enter_context(Child.start(launch))
            try:
                tree = await _stand(sandbox, child)
                group = stack.enter_context(_group(run, child))
                descriptor = os.pidfd_open(tree.root)
            except BaseException:
                await to_the_end(child.abandon())
                raise
        try:
            return await _Execution(run, launch, child, tree, descriptor, group).complete(output)
        finally:
            await to_the_end(_gone(child, tree, descriptor))
            os.close(descriptor)


@contextlib.asynccontextmanager
async def _launch(sandbox: Sandbox, run: Run) -> AsyncGenerator[Launch]:
    """Prepared and cleaned up after in a thread: it counts the machine's processes and removes thousands of files."""
    launches: list[Launch] = []
    stack = contextlib.ExitStack()

    def prepare() -> None:
        launches.append(stack.enter_context(sandbox.launch(run)))

    try:
        await to_the_end(asyncio.to_thread(prepare))
        yield launches[0]
    finally:
        await to_the_end(asyncio.to_thread(stack.close))


@contextlib.contextmanager
def _group(run: Run, child: Child) -> Generator[Group | None]:
    """Where there are groups: one with all of the sandbox, before there is anything of the script."""
    groups = delegated()
    if groups is None:
        yield None
        return
    with groups.group(run.limits) as group:
        group.add([child.pid, *(member.pid for member in members(child.pid, run.limits.processes + PROCESSES))])
        yield group


async def _stand(sandbox: Sandbox, child: Child) -> Tree:
    try:
        async with asyncio.timeout(START):
            await child.stands()
            while (tree := sandbox.tree(child.pid)) is None:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.001)
            return tree
    except TimeoutError:
        raise SandboxFailed(f"the sandbox could not be built in {START:g} s") from None


def _kill(tree: Tree, root: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(root, tree.ending)


async def _gone(child: Child, tree: Tree, root: int) -> None:
    _kill(tree, root)
    child.give_up()
    await child.ended()
    await readable(root)


class _Execution:
    """A script that stands before its start."""

    def __init__(self, run: Run, launch: Launch, child: Child, tree: Tree, root: int, group: Group | None) -> None:
        self._run = run
        self._folders = [run.workspace, *launch.folders]
        self._child = child
        self._tree = tree
        self._root = root
        self._group = group
        self._watch = Watch(tree.root, run.limits)
        self._broken: limits.Broken | None = None

    async def complete(self, output: Output) -> Ended:
        """Start it and see it to its end."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._child.go()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._child.read("stdout", output))
                group.create_task(self._child.read("stderr", output))
                accompanying = [
                    group.create_task(self._child.feed(self._run.stdin)),
                    group.create_task(self._watch_processes()),
                    group.create_task(self._watch_workspace()),
                ]
                code = await self._child.ended()
                duration = loop.time() - begun
                _kill(self._tree, self._root)  # what it left running
                await readable(self._root)
                for task in accompanying:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if self._broken is None and self._group is not None and self._group.out_of_memory:
            self._broken = "memory"
        # What it wrote in its last moments nobody has looked at.
        overfull, _ = await self._walk(quota.holds_named(self._folders))
        return Ended(code, duration, self._watch.peak, limits.cause(code, self._broken) or overfull)

    def _stop(self, broken: limits.Broken | None) -> bool:
        if broken is not None and self._broken is None:
            self._broken = broken
            _kill(self._tree, self._root)
        return broken is not None

    async def _watch_processes(self) -> None:
        pause = FIRST_LOOK
        while True:
            await asyncio.sleep(pause)
            async with LOOKS:
                used, spent = await self._look()
            if self._stop(limits.broken(used, self._run.limits)):
                return
            pause = max(min(LOOK, pause * 1.5), spent * SHARE)

    async def _look(self) -> tuple[Used, float]:
        pace = Pace()
        parts = self._watch.look()
        while True:
            try:
                next(parts)
            except StopIteration as end:
                return end.value, pace.stop()
            await pace.pause()

    async def _watch_workspace(self) -> None:
        while True:
            parts = quota.holds_open(self._folders, self._tree.root, self._run.limits.processes)
            broken, spent = await self._walk(parts)
            if quota.short_of_disk(self._run.workspace, self._run.quota):
                broken = "workspace"
            if self._stop(broken):
                return
            await asyncio.sleep(max(LOOK, spent * SHARE))

    async def _walk(self, parts: Generator[Held]) -> tuple[limits.Broken | None, float]:
        """Whether these are too much for the workspace, and the seconds that looking took."""
        size = files = 0
        async with WALKS:
            pace = Pace()
            with contextlib.closing(parts):
                for part in parts:
                    size += part.size
                    files += part.files
                    if broken := limits.overfull(Held(size, files), self._run.quota, self._run.files):
                        return broken, pace.stop()
                    await pace.pause()
            return None, pace.stop()
