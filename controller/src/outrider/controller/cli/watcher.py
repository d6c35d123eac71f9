"""A fleet that is watched: its board, fed by what is heard and by asking, and what is looked at of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec
from msgspec import to_builtins
from rich.text import Text

from outrider.controller import Fleet, Target, parse, resolve, value_of
from outrider.controller.course import is_there
from outrider.controller.selection import Id, Pool, Union
from outrider.controller.watch import Board, Sort
from outrider.controller.witness import Witness
from outrider.device import RunningJob, error_of
from outrider.schema import LocalError, OutriderError, Progress, Result, State, UnknownTarget

from .board import Page, View, page
from .output import plain_result, printable

ASKING: Final = 2.0
"""Seconds between two looks at whom to ask."""

ASKED_AT_ONCE: Final = 50
"""Devices that are asked at once for their jobs; at the beginning all of a group, with one message."""

ANSWER_WAIT: Final = 3.0
"""Seconds for devices to say what they run."""

OURS: Final = ("outrider", "python")
"""Versions that every device tells; they are shown where it tells no other ones."""


class Watcher:
    """A board that is fed, and what is looked at of it.

    :ivar changed: set whenever there is something new to draw.
    :ivar page: what was drawn last.
    """

    def __init__(self, fleet: Fleet, target: str | None) -> None:
        self.board = Board(time.time())
        self.view = View(str(fleet.connection.address), target=target or "")
        self.changed = asyncio.Event()
        self.page: Page | None = None
        self._fleet = fleet
        self._target = None if target is None else parse(target)
        self._filter: Target | None = None
        self._resolved: tuple[int, Target | None] = (-1, None)
        self._versions: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._began = time.time()
        self._clock = self._began

    def now(self) -> float:
        """Unix seconds, that never go back."""
        self._clock = max(self._clock, time.time())
        return self._clock

    @contextlib.asynccontextmanager
    async def hearing(self) -> AsyncGenerator[None]:
        """Feed the board while the context is open; when it is entered, it holds what stands on the broker."""
        fleet = self._fleet
        for state in fleet.devices():
            self.board.state(state, self.now(), standing=True)

        def changed(state: State) -> None:
            self.board.state(state, self.now())
            self.changed.set()

        witness = Witness(
            fleet.connection.address,
            fleet.topics,
            self,
            name=fleet.requester,
            on_connect=self._connected,
            on_disconnect=self._disconnected,
        )
        with fleet.roster.watch(changed):
            async with witness:
                self.view.deaf = witness.deaf
                self.select()
                yield

    def command(self, requester: str, id: str, command: str) -> None:
        """See `Listener`."""
        self.board.command(requester, id, command, self.now())
        self.changed.set()

    def progress(self, requester: str, progress: Progress) -> None:
        """See `Listener`."""
        self._reconcile(progress.device)
        self.board.progress(requester, progress, self.now())
        self.changed.set()

    def result(self, requester: str, result: Result, *, standing: bool) -> None:
        """See `Listener`."""
        self._reconcile(result.device)
        self.board.result(requester, result, self.now(), standing=standing)
        self.changed.set()

    def select(self) -> None:
        """Choose what is shown; devices that match by now are among it."""
        now = self.now()
        self.board.keep(self._fleet.roster.states.keys())
        self._reconcile()
        self.board.give_up(now)
        if self._resolved == (self.board.version, self._filter):
            return
        self._resolved = (self.board.version, self._filter)
        shown: frozenset[str] | None = None
        for target in (self._target, self._filter):
            if target is not None:
                devices, unseen = self._devices(target)
                shown = devices if shown is None else shown & devices
                if target is self._target:
                    self.view.unseen = unseen
        self.view.shown = shown

    def draw(self, width: int, height: int) -> list[Text]:
        """The lines for a terminal of this size."""
        self.select()
        self.view.versions = self._versions
        self.page = page(self.board, self.view, self.now(), width, height)
        return self.page.lines

    def narrow(self, text: str) -> bool:
        """Filter by a target, or no more where it is empty; False, and `view.wrong`, where it cannot be read."""
        try:
            self._filter = parse(text) if text.strip() else None
        except LocalError as error:
            self.view.wrong = str(error).partition("\n")[0]
            return False
        self.view.filter, self.view.wrong, self.view.offset = text.strip(), "", 0
        return True

    async def keep_asking(self) -> None:
        """Ask devices for what the messages do not tell: jobs that ran before, and ones that may have ended."""
        await self.ask_first()
        while True:
            await self.ask_versions()
            on_screen = self.page.devices if self.page else ()
            others = (id for id in self.board.devices if id not in set(on_screen))
            devices = self.board.to_ask(self.now(), [*on_screen, *others])[:ASKED_AT_ONCE]
            if devices:
                await self._ask(Union(tuple(map(Id, devices))))
            await asyncio.sleep(ASKING)

    async def ask_first(self) -> None:
        """Ask for the jobs that run already: a group with one message, else those on the screen, or the first ones."""
        there = [id for id in self._chosen() if self.board.devices[id].state.status in ("ready", "unready")]
        if not there:
            return
        target = self._target
        group = None
        if target is None or not isinstance(target, Pool):
            with contextlib.suppress(UnknownTarget):
                group = resolve(target or "all", self._fleet.roster.states).group
        if group is not None and len(there) > 1:
            await self._ask("all" if group == "all" else f"@{group}")
            return
        on_screen = [id for id in self.page.devices if id in there] if self.page else there
        await self._ask(Union(tuple(map(Id, (on_screen or there)[: 2 * ASKED_AT_ONCE]))))

    async def ask_versions(self) -> None:
        """Look up what runs on the devices on the screen: it stands on the broker, once for all that are alike."""
        states = self._fleet.roster.states
        shown = [id for id in (self.page.devices if self.page else self._chosen()) if id in states]
        unknown = [id for id in shown if self._kinds.get(id) != states[id].about]
        if not unknown:
            return
        self._kinds |= {id: states[id].about for id in unknown}
        with contextlib.suppress(OutriderError):
            abouts = await self._fleet.abouts([id for id in unknown if states[id].about], wait=ANSWER_WAIT)
            for id, about in abouts.items():
                own = {name: version for name, version in about.versions.items() if name not in OURS}
                versions = (own or about.versions).items()
                self._versions[id] = ", ".join(f"{printable(name)} {printable(version)}" for name, version in versions)
            self.changed.set()

    def document(self) -> dict[str, object]:
        """Everything, as one JSON object."""
        totals = self.board.totals(self.now(), self._chosen())
        return {
            "broker": self.view.broker,
            "target": self.view.target or None,
            "counts": dict(totals.statuses),
            "running": totals.running,
            "unseen": list(self.view.unseen),
            "devices": [self._plain(id) for id in self.board.order(self.now(), self._chosen(), by=Sort.DEVICE)],
        }

    def _plain(self, id: str) -> dict[str, object]:
        row = self.board.devices[id]
        state: dict[str, object] = to_builtins(row.state)
        jobs = [
            {
                "id": job.id,
                "command": job.command,
                "requester": job.requester,
                "since": job.since,
                "fraction": job.fraction,
                "text": job.text,
            }
            for job in row.jobs.values()
        ]
        last = None if row.last is None else {"requester": row.last.requester, **plain_result(row.last.result)}
        return {**state, "jobs": jobs, "last": last}

    def _chosen(self) -> Sequence[str]:
        shown = self.view.shown
        return [id for id in (self.board.devices if shown is None else sorted(shown)) if id in self.board.devices]

    def _devices(self, target: Target) -> tuple[frozenset[str], tuple[str, ...]]:
        try:
            targets = resolve(target, self._fleet.roster.states)
        except UnknownTarget:
            return frozenset(), ()
        return frozenset(targets.devices) - targets.unseen, tuple(sorted(targets.unseen))

    def _reconcile(self, device: str | None = None) -> None:
        """Take the states that have come, of one device or all; they come over the fleet's connection."""
        states, now = self._fleet.roster.states, self.now()
        for id in states if device is None else (device,):
            state, known = states.get(id), self.board.devices.get(id)
            if state is not None and (known is None or known.state is not state):
                self.board.state(state, now)

    async def _ask(self, target: str | Target) -> None:
        """Ask for the jobs, and take the answers as they come; devices that do not answer stay as they are."""
        asked, loop = self.now(), asyncio.get_running_loop()
        with contextlib.suppress(OutriderError, TimeoutError):
            async with asyncio.timeout(2 * ANSWER_WAIT) as limit:
                dispatch = self._fleet.dispatch(target, "jobs", [], wait=ANSWER_WAIT)
                missing = {id for id in dispatch.targets.devices if is_there(id, self._fleet.roster.states)}
                async for device, message in dispatch:
                    if not isinstance(message, Result) or not message.status.final:
                        continue
                    with contextlib.suppress(msgspec.MsgspecError):
                        if error_of(message) is None:
                            self.board.told(device, value_of(message, list[RunningJob]), asked, self.now())
                            self.changed.set()
                    missing.discard(device)
                    if not missing:  # who is away is not waited for
                        limit.reschedule(loop.time())

    def _connected(self) -> None:
        if self.view.lost is not None:
            self.view.lost, self.view.back = None, self.now()
            self.changed.set()

    def _disconnected(self, reason: str) -> None:
        if self.view.lost is None:
            self.view.lost = self.now(), reason
            self.changed.set()
