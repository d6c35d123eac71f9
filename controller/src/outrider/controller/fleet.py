"""The Python API: a fleet of devices on one broker, seen and commanded by one requester."""

import math
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from outrider.device import (
    DEFAULT_WAIT,
    PACE,
    Address,
    Arguments,
    Connection,
    Invocation,
    Invoker,
    Message,
    Pace,
    Subscription,
    error_of,
    value_of,
)
from outrider.device.answers import NOT_RETAINED
from outrider.device.calls import arguments as arguments_of
from outrider.schema import (
    ANY,
    About,
    Kind,
    LocalError,
    NoAnswer,
    State,
    Status,
    Topics,
    UnknownTarget,
)
from outrider.schema.messages import MAX_EXPIRY

from .batches import InBatches
from .course import AnyOf, AtOnce, Course, Patience, is_there
from .descriptions import ABOUT_WAIT, Descriptions
from .dispatch import Dispatch, Outcome, expires_in
from .durable import Durable, DurableOutbox, Place, Record
from .opening import opened
from .plan import Plan, Share
from .resume import resumed
from .rollout import Rollout
from .roster import Roster
from .settings import default_requester
from .targets import Target, Targets, require_seen, resolve, sample

T = TypeVar("T")

IfOffline = Literal["queue", "fail"]
"""What becomes of a command for a device that is away."""


class Fleet:
    """The devices on one broker. Use it as an async context manager.

    ::

        async with Fleet("mqtt://localhost") as fleet:
            print(await fleet.call("lamp-1", "ping", type=int))
            async for outcome in fleet.send("@kitchen", "dim", level=40):
                print(outcome.device, outcome.status)

    :param broker: URL, as `mqtt://user:password@host:1883` or `mqtts://host`.
    :param requester: this side's stable name; by default the broker's user name, else OUTRIDER_NAME, else user-host.
    :param prefix: levels that stand before every topic.
    :param on_connect: called whenever the broker is there; `on_disconnect`, with the reason, whenever it is lost.
    :param pace: how fast commands that are not answered are repeated.
    :param outbox: a file in which every command is written down before it is sent, with its outcomes; see `resume`.
    """

    def __init__(
        self,
        broker: str,
        *,
        requester: str | None = None,
        prefix: str = "",
        on_connect: Callable[[], None] | None = None,
        on_disconnect: Callable[[str], None] | None = None,
        pace: Pace = PACE,
        outbox: Path | str | None = None,
    ) -> None:
        address = Address.parse(broker)
        self.requester = requester or default_requester(address.user)
        self.roster = Roster(self._returned)
        self.topics = Topics(prefix)
        self._parse = lru_cache(maxsize=16_384)(self.topics.parse)
        self._connection = Connection(
            address,
            client_id=f"{self.requester}-{secrets.token_hex(4)}",
            receive=self._receive,
            on_connect=self._connected,
            on_disconnect=on_disconnect,
        )
        self._descriptions = Descriptions(self.roster, self._connection, self.topics)
        self._on_connect = on_connect
        self._outbox_path = outbox
        self._outbox: DurableOutbox | None = None
        self._invoker = Invoker(
            self._connection, topics=self.topics, requester=self.requester, away=self._is_away, pace=pace
        )

    @property
    def connection(self) -> Connection:
        """The connection to the broker."""
        return self._connection

    async def __aenter__(self) -> Self:
        """Open the outbox, connect, subscribe, and wait until the states that stand on the broker have come.

        :raises OutboxUnusable: the outbox cannot be opened.
        :raises BrokerUnreachable: at the first attempt that fails, or the broker does not answer subscriptions.
        :raises SubscribeRefused: this requester may not read states or answers.
        """
        if self._outbox_path is not None:
            self._outbox = DurableOutbox(self._outbox_path)
        try:
            await opened(self._connection, self._subscribe)
        except BaseException:
            self._close_outbox()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._connection.__aexit__(kind, error, traceback)
        finally:
            self._close_outbox()

    async def _subscribe(self) -> None:
        await self._invoker.open()
        await self._connection.subscribe(Subscription(self.topics.state(ANY)))
        await self._connection.roundtrip()

    def devices(self, target: str | Target | None = None) -> list[State]:
        """The states of the devices a target stands for, in order of their ids; without a target of all ever seen.

        :raises TargetSyntax: the target cannot be read.
        :raises UnknownTarget: it stands for no device, or names one that nobody has seen.
        """
        if target is None:
            return [self.roster.states[id] for id in sorted(self.roster.states)]
        return [self.roster.states[id] for id in self.resolve(target).devices]

    def resolve(self, target: str | Target, *, unseen: bool = False) -> Targets:
        """What a target stands for now.

        :param unseen: let ids pass that nobody has seen.
        :raises TargetSyntax: the target cannot be read.
        :raises UnknownTarget: it stands for no device, or names one that nobody has seen.
        """
        targets = resolve(target, self.roster.states)
        return targets if unseen else require_seen(targets, self.roster.states)

    async def about(self, device: str, *, wait: float = ABOUT_WAIT) -> About:
        """A device's commands with help and JSON Schema.

        :param wait: seconds.
        :raises UnknownTarget: nobody has seen this device, or its about does not stand on the broker.
        """
        return await self._descriptions.about(device, wait=wait)

    async def abouts(self, devices: Iterable[str], *, wait: float = ABOUT_WAIT) -> dict[str, About]:
        """What several devices can do, by device. Like devices share a digest, so each distinct about comes once.

        A device whose about does not stand on the broker is left out.

        :param wait: seconds.
        :raises UnknownTarget: nobody has seen one of these devices.
        """
        return await self._descriptions.abouts(devices, wait=wait)

    def dispatch(
        self,
        target: str | Target,
        command: str,
        args: Arguments | None = None,
        *,
        wait: float | None = None,
        timeout: float | None = None,
        expires: float | None = None,
        if_offline: IfOffline | None = None,
        limit: Share | None = None,
        seed: int | None = None,
        plan: Plan | None = None,
        behalf: str | None = None,
        id: str | None = None,
    ) -> Dispatch:
        """Send a command to every device of a target, at once; iterate the result for what comes back.

        A pool (`any:words`) stands for one ready member: the one with the fewest commands of this side in flight.

        :param args: named (a mapping) or positional (a sequence).
        :param wait: seconds to wait for final answers. Without it 30, and no longer than until all devices that are
            there have answered: a lost one does not hold up the others. `math.inf`: for as long as a device that is
            there works on it, and what comes after that is in `Dispatch.late`. A rollout has its plan's `settle`.
        :param timeout: seconds the command may run on a device.
        :param expires: seconds in which a device may still start it; by default as long as is waited, at least 30.
        :param if_offline: `"queue"` sends to devices that are away too, for when they are back, also to ids that were
            never seen; so does None, but not to those ids. `"fail"` sends nothing to who is away: it is `offline`.
        :param limit: send to so many of the devices only, chosen by chance, the same ones for the same `seed`.
        :param plan: send in batches, with pauses, and abort after too many failures.
        :param behalf: for whom this requester asks, where not for itself: jobs and results are theirs.
        :param id: the command's id, for who has made one; it must be new, or be that of the very same command.
        :raises TargetSyntax: the target cannot be read.
        :raises UnknownTarget: the target stands for no device, or names one that nobody has seen.
        :raises NoMember: no member of the pool is ready.
        :raises InvalidName: `command` is empty or too long.
        :raises InvalidArguments: NaN, an infinity or an integer of more than 64 bits.
        :raises LocalError: a pool with a limit or a plan, or `expires` is more than 7 days.
        :raises OutboxUnusable: the command could not be written down, and was not sent.
        """
        if expires is not None and not 0 < expires <= MAX_EXPIRY:
            raise LocalError(f"a command cannot be good for {expires:g} s: it is above 0, and 7 days at most")
        targets = self.resolve(target, unseen=if_offline == "queue")
        if targets.pool is not None and (limit is not None or plan is not None):
            raise LocalError(f"any:{targets.pool} stands for one device: a limit or batches make no sense for it")
        if limit is not None:
            targets = sample(targets, limit, seed)
        away = frozenset(self._away(targets.devices) if if_offline == "fail" else targets.gone)
        invocation = self._invoker.prepare(command, args, timeout=timeout, behalf=behalf, id=id)
        now, good_for = time.monotonic(), expires_in(wait) if expires is None else expires
        patience = Patience(
            until=now + (DEFAULT_WAIT if wait is None else wait),
            lost_too=wait is not None and wait != math.inf,
            taken_by=now + good_for,
        )
        states = self.roster.states
        course: Course
        if targets.pool is not None:
            course = AnyOf(
                targets.pool,
                targets.devices,
                invocation,
                states,
                patience,
                load=self._invoker.load,
                idempotent=self._descriptions.idempotent(targets.devices, command),
                chance=random.Random(seed),
            )
        elif plan is not None:
            rollout = Rollout(plan, [device for device in targets.devices if device not in away])
            course = InBatches(
                rollout, targets.devices, invocation, states, connected=lambda: self._connection.connected
            )
        else:
            group = targets.group if if_offline != "fail" else None
            course = AtOnce(targets.devices, group, invocation, states, patience, left_out=away)
        return Dispatch(
            invocation,
            targets,
            course,
            roster=self.roster,
            invoker=self._invoker,
            left_out=away,
            endless=wait == math.inf,
            expires=good_for,
            record=self._record(invocation, target, targets),
        )

    @contextmanager
    def together(self) -> Generator[None]:
        """Write all that is dispatched inside down with one commit, and send it after that.

        Do not await inside.

        :raises OutboxUnusable: at the end: nothing was written down, and nothing sent.
        """
        with self._invoker.together(), nullcontext() if self._outbox is None else self._outbox.together():
            yield

    @property
    def outbox(self) -> DurableOutbox | None:
        """Where commands are written down; open while the fleet is."""
        return self._outbox

    @property
    def held(self) -> int:
        """How many commands wait for room in the connection."""
        return self._invoker.held

    @property
    def place(self) -> Place:
        """Who asks where: what a command in an outbox must have in common with this fleet to be resumed."""
        return Place(self._connection.address.place, self.topics.prefix, self.requester)

    def resume(self, *, wait: float | None = None) -> list[Dispatch]:
        """Go on with the commands in the outbox that have not ended and were sent as this requester to this broker.

        Iterate each, as one that was just sent; what is known already comes first. Devices that have not answered get
        the same command again until it expires, those that had accepted it also after that. `outcomes_of` of
        `outrider.controller.accounting` does this for one command, and asks the devices what they know of it first.

        :param wait: seconds to wait for final answers, as in `dispatch`.
        :raises OutboxUnusable: the outbox cannot be read.
        """
        if self._outbox is None:
            return []
        found = [self._outbox.find(brief.id) for brief in self._outbox.unfinished(self.place)]
        return [self.resume_one(durable, wait=wait) for durable in found if durable is not None]

    def resume_one(self, durable: Durable, *, wait: float | None = None) -> Dispatch:
        """Go on with a command that was written down; see `resume`."""
        assert self._outbox is not None
        return resumed(
            durable,
            wait,
            roster=self.roster,
            invoker=self._invoker,
            record=self._outbox.resume(durable.id),
        )

    @overload
    def send(
        self, target: str | Target, command: str, /, *args: object, type: type[T], **named: object
    ) -> AsyncIterator[Outcome[T]]: ...

    @overload
    def send(
        self, target: str | Target, command: str, /, *args: object, **named: object
    ) -> AsyncIterator[Outcome[object]]: ...

    async def send(
        self,
        target: str | Target,
        command: str,
        /,
        *args: object,
        type: Any = object,  # the overloads say what it is
        **named: object,
    ) -> AsyncIterator[Outcome[Any]]:
        """Send a command and yield one outcome for every device of the target, as they come.

        An argument that is called `type` goes by position, or through `dispatch`, which has all options.

        :param type: what the values are decoded as; plain objects by default.
        :raises TargetSyntax: the target cannot be read.
        :raises UnknownTarget: the target stands for no device.
        :raises NoMember: no member of the pool is ready.
        """
        arguments = arguments_of(args, named)
        targets = self.resolve(target)
        if targets.pool is not None:  # to know whether it is idempotent there
            await self.abouts(targets.devices)
        async for outcome in self.dispatch(target, command, arguments).each(type):
            yield outcome

    @overload
    async def call(self, device: str, command: str, /, *args: object, type: type[T], **named: object) -> T: ...

    @overload
    async def call(self, device: str, command: str, /, *args: object, **named: object) -> object: ...

    async def call(
        self,
        device: str,
        command: str,
        /,
        *args: object,
        type: Any = object,  # the overloads say what it is
        **named: object,
    ) -> object:
        """Call a command on one device, or on one of a pool (`any:words`), and return its value.

        :param type: what the value is decoded as; plain objects by default.
        :raises UnknownTarget: nobody has seen this device, or it is a group.
        :raises InvalidArguments: NaN, an infinity or an integer of more than 64 bits.
        :raises RemoteError: the device answered otherwise than `done`.
        :raises NoAnswer: none came within 30 s, or the device is terminated and was not asked.
        """
        arguments = arguments_of(args, named)
        if device.startswith("any:"):
            await self.abouts(self.resolve(device).devices)
            (outcome,) = [each async for each in self.dispatch(device, command, arguments).each(type)]
            return outcome.value
        state = self.roster.states.get(device)
        if state is None or state.status == "terminated":
            raise self._cannot_call(device)
        if self._outbox is not None and command not in NOT_RETAINED:  # to be written down
            (outcome,) = [each async for each in self.dispatch(device, command, arguments).each(type)]
            return outcome.value
        result = await self._invoker.call(device, command, arguments)
        if error := error_of(result):
            raise error
        return value_of(result, type)

    def _record(self, invocation: Invocation, target: str | Target, targets: Targets) -> Record | None:
        """Where a command is written down; questions about others are not."""
        if self._outbox is None or invocation.command in NOT_RETAINED:
            return None
        return self._outbox.begin(
            invocation.id,
            self.place,
            () if targets.pool is not None else targets.devices,
            command=invocation.command,
            target=str(target),
            behalf=invocation.message.behalf or "",
        )

    def _close_outbox(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def _connected(self) -> None:
        self._invoker.reconnected()
        if self._on_connect is not None:
            self._on_connect()

    def _returned(self, device: str) -> None:
        self._invoker.returned(device)

    def _is_away(self, device: str) -> bool:
        """Whether a device is known not to be there; of one that was never seen nothing is known."""
        return device in self.roster.states and not is_there(device, self.roster.states)

    def _away(self, devices: Iterable[str]) -> Iterator[str]:
        return (device for device in devices if not is_there(device, self.roster.states))

    def _cannot_call(self, device: str) -> LocalError:
        targets = self.resolve(device)
        if targets.group is not None:
            return UnknownTarget(f"call asks one device; {device} stands for {len(targets.devices)}: use send")
        return NoAnswer(f"{device} is terminated: nothing was sent to it", device=device, status=Status.OFFLINE)

    def _receive(self, batch: Sequence[Message]) -> None:
        for message in batch:
            topic = self._parse(message.topic)
            if topic is None:
                continue
            if topic.kind is Kind.RESULT or topic.kind is Kind.PROGRESS:
                self._invoker.receive(topic, message.payload)
            else:
                self.roster.receive(topic, message.payload)
