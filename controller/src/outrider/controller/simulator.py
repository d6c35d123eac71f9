"""Many devices in one process: real clients over real connections, of which some fail, stay silent, flap or go away.

    population = Population(500, groups=("shop",), failing=Share.parse("10%"), silent=Share.parse("5"), seed=7)
    async with Simulation(population, "mqtt://localhost") as simulation:
        await simulation.wait_connected()
        ...
        print(simulation.counts)

Which devices are bad is chosen by the seed, and exactly so many as asked for: what a fleet's outcomes have to add up to
is known beforehand.
"""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from types import TracebackType
from typing import Annotated, Final, Literal, NamedTuple, Self

from msgspec import Meta, Struct

from outrider.device import Address, Connection, Device, Job, MemoryJournal, Message, Subscription, Will, calculate
from outrider.schema import ALL, About, Encoding, EventsFull, LocalError, NotServed, State, Topics, digest_of, encode

from .fleet import Fleet
from .plan import Share

AT_ONCE: Final = 50
"""Devices that connect at the same time."""


class Role(StrEnum):
    """How a simulated device behaves."""

    GOOD = "good"
    FAILING = "failing"
    SILENT = "silent"
    FLAPPING = "flapping"
    OFFLINE = "offline"


class InvalidPopulation(LocalError, ValueError):
    """A population that cannot be: more bad devices than devices, or a span that ends before it begins."""


class Span(NamedTuple):
    """A length of time, chosen anew each time between two ends, in seconds."""

    least: float
    most: float


LATENCY: Final = Span(0.01, 0.1)
FLAP: Final = Span(2.0, 10.0)

MOST_EVENTS: Final = 1000.0
"""Events a second that one device can be asked for."""

KEYS: Final = tuple("abcde")
"""Keys of the events, of which each has one by chance."""


class Execution(Struct, frozen=True):
    """One execution on a simulated device, as the log has it. Times are Unix seconds."""

    device: str
    id: str
    command: str
    outcome: str
    started: float
    finished: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What is simulated.

    :ivar count: how many devices; their ids are `name-1` to `name-COUNT`, with zeros before so that they sort.
    :ivar tags: values by tag; each device has one of them, in turn.
    :ivar latency: how long `work` takes on a device.
    :ivar failing: devices on which `work` always fails.
    :ivar silent: devices that are there and never answer.
    :ivar flapping: devices that lose their connection every `flap`, and come back.
    :ivar offline: devices that were there once and are lost.
    :ivar events: how many events each device emits a second, in pairs: `started` with a key and a subject, and after
        `latency` the `finished` that follows it up, with the same subject.
    :ivar ready: whether they begin ready.
    :ivar seed: which devices are bad, and every latency, follow from it.
    """

    count: int
    name: str = "sim"
    groups: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    latency: Span = LATENCY
    failing: Share | None = None
    silent: Share | None = None
    flapping: Share | None = None
    offline: Share | None = None
    flap: Span = FLAP
    events: float = 0.0
    ready: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidPopulation(f"{self.count} devices are none: give 1 or more")
        for span in (self.latency, self.flap):
            if not 0 <= span.least <= span.most:
                raise InvalidPopulation(f"{span.least:g}s..{span.most:g}s ends before it begins")
        if not 0 <= self.events <= MOST_EVENTS:
            raise InvalidPopulation(f"{self.events:g} events a second cannot be: give 0 to {MOST_EVENTS:g} a device")
        bad = sum(count for role, count in self.wanted.items() if role is not Role.GOOD)
        if bad > self.count:
            raise InvalidPopulation(f"{bad} devices would be failing, silent, flapping or offline, of {self.count}")

    @property
    def wanted(self) -> dict[Role, int]:
        """How many devices there are of each role."""
        shares = {
            Role.FAILING: self.failing,
            Role.SILENT: self.silent,
            Role.FLAPPING: self.flapping,
            Role.OFFLINE: self.offline,
        }
        counts = {role: 0 if share is None else share.of(self.count) for role, share in shares.items()}
        return counts | {Role.GOOD: self.count - sum(counts.values())}

    def roles(self) -> dict[str, Role]:
        """Each device's role, by id."""
        width = len(str(self.count))
        ids = [f"{self.name}-{number:0{width}}" for number in range(1, self.count + 1)]
        roles = [role for role, count in self.wanted.items() for _ in range(count)]
        random.Random(self.seed).shuffle(roles)
        return dict(zip(ids, roles, strict=True))

    def tags_of(self, position: int) -> dict[str, str | int | float | bool]:
        """The tags of a device."""
        return {key: values[position % len(values)] for key, values in self.tags.items()}


class SimulatedFailure(Exception):
    """What a failing device's work ends with."""


class Simulation:
    """A context in which a population is there. It ends with the context, and its devices are `terminated` then.

    :param log: called with each execution as it ends.
    :param changed: called when a device has connected.
    :ivar roles: each device's role, by id.
    :ivar fleet: what sees the devices.
    :ivar connected: how many devices have connected so far.
    :ivar counts: how many executions ended how.
    :ivar at_work: how many executions run now.
    :ivar emitted: how many events the devices have emitted.
    """

    def __init__(
        self,
        population: Population,
        broker: str,
        *,
        prefix: str = "",
        log: Callable[[Execution], None] = lambda execution: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.population = population
        self.roles = population.roles()
        self.fleet = Fleet(broker, requester=f"simulator-{secrets.token_hex(4)}", prefix=prefix)
        self.connected = 0
        self.counts: Counter[str] = Counter()
        self.at_work = 0
        self.emitted = 0
        self._broker = broker
        self._prefix = prefix
        self._log = log
        self._changed = changed
        self._members: list[Device | Silent] = []
        self._lives: list[asyncio.Task[None]] = []
        self._seen = {id: asyncio.Event() for id in self.roles}
        self._connecting = asyncio.Semaphore(AT_ONCE)
        self._all_connected = asyncio.Event()
        self._chance = random.Random(population.seed)
        self._tasks = asyncio.TaskGroup()
        self._context = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to connect all devices.

        :raises BrokerUnreachable: the broker is not there.
        """
        async with AsyncExitStack() as context:
            await context.enter_async_context(self.fleet)
            context.enter_context(self.fleet.roster.watch(self._take))
            await context.enter_async_context(self._tasks)
            self._context = context.pop_all()
        for position, (id, role) in enumerate(self.roles.items()):
            member = self._member(position, id, role)
            self._members.append(member)
            life = self._tasks.create_task(self._live(member, id, role), name=f"simulated {id}")
            self._lives.append(life)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        await self._context.__aexit__(kind, error, traceback)

    async def wait_connected(self) -> None:
        """Return when every device has connected; those that are to be offline are lost by then."""
        await self._all_connected.wait()

    def stop(self) -> None:
        """End all devices, cleanly."""
        for member in self._members:
            member.stop()

    async def end(self) -> None:
        """End all devices, cleanly, and return when they have ended; the fleet still sees them."""
        self.stop()
        if self._lives:
            await asyncio.wait(self._lives)

    def _take(self, state: State) -> None:
        seen = self._seen.get(state.device)
        if seen is not None and state.status in ("ready", "unready"):
            seen.set()

    def _member(self, position: int, id: str, role: Role) -> "Device | Silent":
        population = self.population
        device = Device(
            id,
            groups=population.groups,
            pools=population.pools,
            tags=population.tags_of(position),
            versions={"simulator": "1"},
            initial="ready" if population.ready else "unready",
            journal=MemoryJournal(),  # what it simulates does not outlive it
        )
        chance = random.Random(f"{population.seed} {id}")

        @device.command
        async def work(job: Job, seconds: Annotated[float, Meta(ge=0)] | None = None, steps: int = 5) -> float:
            """Take some time (without `seconds` as long as simulated), tell how far it is, return how long it took."""
            length = chance.uniform(*population.latency) if seconds is None else seconds
            with self._executing(job, id):
                async for _ in job.track(range(max(1, steps))):
                    await asyncio.sleep(length / max(1, steps))
                if role is Role.FAILING:
                    raise SimulatedFailure("this device was told to fail")
            return round(length, 4)

        @device.command
        async def echo(job: Job, text: str) -> str:
            """Return the text, after the simulated time."""
            with self._executing(job, id):
                await asyncio.sleep(chance.uniform(*population.latency))
                if role is Role.FAILING:
                    raise SimulatedFailure("this device was told to fail")
            return text

        device.include(calculate)
        return Silent(device) if role is Role.SILENT else device

    @contextmanager
    def _executing(self, job: Job, device: str) -> Generator[None]:
        started, outcome = time.time(), "interrupted"
        self.at_work += 1
        try:
            yield
            outcome = "done"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.at_work -= 1
            self.counts[outcome] += 1
            self._log(Execution(device, job.id, job.command, outcome, started, time.time()))

    async def _live(self, member: "Device | Silent", id: str, role: Role) -> None:
        async with self._connecting:
            serving = asyncio.create_task(member.serve(self._broker, prefix=self._prefix), name=f"serve {id}")
            seen = asyncio.create_task(self._seen[id].wait(), name=f"see {id}")
            await asyncio.wait((serving, seen), return_when=asyncio.FIRST_COMPLETED)
            seen.cancel()
        if role is Role.OFFLINE and isinstance(member, Device):
            member.crash()
            await serving
        emitting = None
        if self.population.events and isinstance(member, Device) and not serving.done():
            emitting = self._tasks.create_task(self._emit(member), name=f"events of {id}")
        self.connected += 1
        self._changed()
        if self.connected == len(self.roles):
            self._all_connected.set()
        if role is Role.FLAPPING and isinstance(member, Device):
            await self._flap(member, serving)
        try:
            await serving
        finally:
            if emitting is not None:
                emitting.cancel()

    async def _emit(self, device: Device) -> None:
        """Emit events at the rate asked for, until cancelled."""
        loop, every = asyncio.get_running_loop(), 2 / self.population.events
        chance = random.Random(f"{self.population.seed} events of {device.id}")
        begin = loop.time() + chance.uniform(0, every)  # else all devices would speak at once
        async with asyncio.TaskGroup() as pairs:
            for number in count():
                await asyncio.sleep(begin + number * every - loop.time())
                pairs.create_task(self._pair(device, chance), name=f"events {number} of {device.id}")

    async def _pair(self, device: Device, chance: random.Random) -> None:
        """Emit an event, and the one that follows it up; nothing once the device has ended, or keeps too many."""
        subject = f"{chance.getrandbits(64):016x}"
        took = chance.uniform(*self.population.latency)
        with suppress(NotServed, EventsFull):
            await device.emit("started", key=chance.choice(KEYS), subject=subject)
            self.emitted += 1
            await asyncio.sleep(took)
            await device.emit("finished", subject=subject, seconds=round(took, 4))
            self.emitted += 1

    async def _flap(self, device: Device, serving: "asyncio.Task[bool]") -> None:
        while not serving.done():
            await asyncio.wait((serving,), timeout=self._chance.uniform(*self.population.flap))
            device.drop()


class Silent:
    """A device that is there, says what it can do, receives commands, and never answers."""

    def __init__(self, device: Device) -> None:
        specs = {name: registration.spec.about() for name, registration in device.commands.items()}
        self._about = About(versions=dict(device.versions), commands=specs)
        self._device = device
        self._session = 0
        self._stopped = asyncio.Event()

    async def serve(self, broker: str, *, prefix: str) -> bool:
        """Connect, and say nothing until `stop`."""
        topics, id = Topics(prefix), self._device.id
        state, about = topics.state(id), encode(self._about, Encoding.JSON)

        def will() -> Will:
            self._session = max(self._session + 1, int(time.time() * 1e6))
            return Will(state, self._state("lost"))

        def tell() -> None:
            connection.publish(state, self._state(self._device.initial), retain=True)
            connection.publish(topics.about(id), about, retain=True)

        name = "-".join((*topics.prefix.split("/"), id)).lstrip("-")
        connection = Connection(Address.parse(broker), client_id=name, receive=_ignore, will=will, on_connect=tell)
        async with connection:
            groups = (ALL, *self._device.groups)
            filters = [topics.commands_to_device(id), *map(topics.commands_to_group, groups)]
            await connection.subscribe(*map(Subscription, filters))
            await self._stopped.wait()
            connection.publish(state, self._state("terminated"), retain=True)
        return True

    def stop(self) -> None:
        """End."""
        self._stopped.set()

    def _state(self, status: Literal["unready", "ready", "terminated", "lost"]) -> bytes:
        device = self._device
        state = State(
            device=device.id,
            status=status,
            session=self._session,
            since=time.time(),
            groups=list(device.groups),
            pools=list(device.pools),
            tags=dict(device.tags),
            about=digest_of(self._about),
        )
        return encode(state, Encoding.JSON)


def _ignore(batch: Sequence[Message]) -> None:
    """What a silent device does with what it gets."""
