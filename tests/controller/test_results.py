import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import Raw, json, msgpack

from outrider.controller import Fleet, value_of
from outrider.controller.broker import BrokerProcess
from outrider.controller.results import cancel, jobs, last_results, progress_words, results_of
from outrider.device import Device, Job, Reply, RunningJob
from outrider.schema import BrokerUnreachable, InvalidName, Progress, Result, Status, UnknownTarget
from tests.brokers import BrokerUnderTest, started
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script

Echoed = int | str | dict[str, list[int | None]]


class Bench:
    """Devices in this process, and who asks them."""

    def __init__(self, broker: BrokerUnderTest, prefix: str) -> None:
        self.broker = broker
        self.prefix = prefix
        self.go_on = asyncio.Event()

    def fleet(self, requester: str = "tester") -> Fleet:
        return Fleet(self.broker.address, requester=requester, prefix=self.prefix)

    def lamp(self, id: str, *groups: str) -> Device:
        device = Device(id, groups=groups, pools=["lamps"], initial="ready")

        @device.command
        def echo(value: Echoed) -> Echoed:
            return value

        @device.command(idempotent=True)
        def dim(level: int) -> int:
            return level

        @device.command
        async def burn(job: Job) -> str:
            job.report(0.25, "a quarter")
            await self.go_on.wait()
            return "burnt"

        @device.command
        def stubborn(job: Job) -> str:
            while not self.go_on.is_set() or not job.cancelled:
                job.report(None, "deaf")
                time.sleep(0.05)
            return "in the end"

        return device

    @asynccontextmanager
    async def serving(self, *ids: str) -> AsyncGenerator[Fleet]:
        """Lamps, and a fleet that sees them."""
        devices = [self.lamp(id) for id in ids]
        async with asyncio.TaskGroup() as tasks, self.fleet() as fleet:
            for device in devices:
                tasks.create_task(device.serve(self.broker.address, prefix=self.prefix), name=device.id)
            await until(fleet, lambda: all(id in fleet.roster.states for id in ids))
            try:
                yield fleet
            finally:
                self.go_on.set()
                for device in devices:
                    device.stop()

    async def send(self, fleet: Fleet, target: str, command: str, *args: object) -> str:
        """Send as a process that waits for all outcomes; the id."""
        dispatch = fleet.dispatch(target, command, list(args))
        async with asyncio.timeout(20):
            async for _ in dispatch:
                pass
        return dispatch.id

    async def begin(self, fleet: Fleet, target: str, command: str, *args: object) -> str:
        """Send as a process that goes away when the devices work on it; the id."""
        dispatch = fleet.dispatch(target, command, list(args))
        working: set[str] = set()
        async with asyncio.timeout(20):
            async for device, message in dispatch:
                if isinstance(message, Progress) and (message.text or message.accepted):
                    working.add(device)
                if working == set(dispatch.targets.devices):
                    break
        return dispatch.id


async def until(fleet: Fleet, condition: Callable[[], bool]) -> None:
    """Wait until a state makes the condition true."""
    changed = asyncio.Event()
    with fleet.roster.watch(lambda state: changed.set()):
        async with asyncio.timeout(20):
            while not condition():
                changed.clear()
                await changed.wait()


@pytest.fixture
def bench(broker: BrokerUnderTest, prefix: str) -> Bench:
    return Bench(broker, prefix)


def told(result: Result) -> str:
    return result.error.message if result.error else ""


async def claim(peer: Peer, prefix: str, id: str, status: str, session: int = 1) -> None:
    """Publish a state for a device that does not exist."""
    state = {"device": id, "status": status, "session": session, "since": 0}
    await peer.publish(f"{prefix}/devices/{id}/state", state, retain=True)


async def test_last_results_are_the_newest_of_each_device_first(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2") as fleet:
        await bench.send(fleet, "lamp-1", "echo", "old")
        second = await bench.send(fleet, "lamp-2", "echo", "two")
        first = await bench.send(fleet, "lamp-1", "echo", "new")
        standing = await last_results(fleet)
        assert [(each.requester, each.result.id) for each in standing] == [("tester", first), ("tester", second)]
        assert [value_of(each.result) for each in standing] == ["new", "two"]
        assert [each.result.device for each in await last_results(fleet, "lamp-2")] == ["lamp-2"]
        with pytest.raises(UnknownTarget, match="lamp-9"):
            await last_results(fleet, "lamp-9")


async def test_requesters_see_their_own_results_and_everyone_is_asked_for(bench: Bench, connect: Connect) -> None:
    async with bench.serving("lamp-1") as fleet, bench.fleet("bob") as bob:
        mine, his = await bench.send(fleet, "lamp-1", "echo", 1), await bench.send(bob, "lamp-1", "echo", 2)
        peer = await connect(Peer(bench.broker.address))
        await peer.subscribe(f"{bench.prefix}/devices/lamp-1/result")
        await peer.publish(f"{bench.prefix}/devices/lamp-1/cmd", {"id": "typed", "command": "echo", "args": [3]})
        await peer.wait_for_count(1, 15)
        assert [each.result.id for each in await last_results(fleet)] == [mine]
        assert [each.result.id for each in await last_results(bob)] == [his]
        everyone = {(each.requester, each.result.id) for each in await last_results(fleet, everyone=True)}
        assert everyone == {("tester", mine), ("bob", his), ("", "typed")}
        assert (await results_of(bob, mine)).outcomes == {}


async def test_asking_for_results_and_jobs_leaves_the_results_that_stand(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2") as fleet:
        first, second = await bench.send(fleet, "lamp-1", "dim", 1), await bench.send(fleet, "lamp-2", "dim", 2)
        await jobs(fleet)
        await results_of(fleet, first)
        await cancel(fleet, "anything")
        await fleet.call("lamp-1", "stats")
        assert {each.result.id for each in await last_results(fleet)} == {first, second}


async def test_an_earlier_result_is_found_after_a_later_one_took_its_place(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2", "lamp-3") as fleet:
        id = await bench.send(fleet, "lamp-1", "echo", {"a": [1, None]})
        await bench.send(fleet, "lamp-1", "echo", "later")
        findings = await results_of(fleet, id)
        assert {device: value_of(result) for device, result in findings.outcomes.items()} == {
            "lamp-1": {"a": [1, None]}
        }
        assert findings.done
        assert (findings.away, findings.untold, findings.running) == ((), {}, {})


async def test_all_devices_are_asked_with_one_message_each_to_their_group(bench: Bench, connect: Connect) -> None:
    async with bench.serving("lamp-1", "lamp-2", "lamp-3") as fleet:
        peer = await connect(Peer(bench.broker.address))
        await peer.subscribe(f"{bench.prefix}/groups/+/cmd/#")
        await peer.subscribe(f"{bench.prefix}/devices/+/cmd/#")
        await results_of(fleet, "unknown")
        await peer.round_trip()
        asked = [
            (message.topic.removeprefix(f"{bench.prefix}/"), message.json()["command"]) for message in peer.messages
        ]
        assert sorted(asked) == [("groups/all/cmd/tester", "jobs"), ("groups/all/cmd/tester", "result")]


async def test_nobody_is_asked_where_the_results_that_stand_say_all(bench: Bench, connect: Connect) -> None:
    async with bench.serving("lamp-1", "lamp-2") as fleet:
        id = await bench.send(fleet, "all", "dim", 5)
        peer = await connect(Peer(bench.broker.address))
        await peer.subscribe(f"{bench.prefix}/groups/+/cmd/#")
        await peer.subscribe(f"{bench.prefix}/devices/+/cmd/#")
        findings = await results_of(fleet, id)
        assert (list(findings.outcomes), findings.done) == (["lamp-1", "lamp-2"], True)
        await peer.round_trip()
        assert peer.messages == []


async def test_a_target_narrows_what_is_looked_at(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2") as fleet:
        id = await bench.send(fleet, "all", "echo", 5)
        assert list((await results_of(fleet, id, "lamp-2")).outcomes) == ["lamp-2"]


@pytest.mark.parametrize("target", ["any:lamps", "lamp-1,lamp-2", "lamp-*", "all"])
async def test_targets_of_every_kind_stand_for_all_their_devices(bench: Bench, target: str) -> None:
    async with bench.serving("lamp-1", "lamp-2") as fleet:
        id = await bench.begin(fleet, "all", "burn")
        assert list((await results_of(fleet, id, target)).outcomes) == ["lamp-1", "lamp-2"]
        assert (await jobs(fleet, target)).told == ("lamp-1", "lamp-2")
        assert (await cancel(fleet, id, target)).cancelled == ("lamp-1", "lamp-2")


async def test_a_job_that_still_runs_is_running_and_the_wait_sees_it_end(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2") as fleet:
        async with bench.fleet() as sender:
            id = await bench.begin(sender, "lamp-1", "burn")
        findings = await results_of(fleet, id)
        assert (findings.outcomes["lamp-1"].status, told(findings.outcomes["lamp-1"])) == (
            Status.RUNNING,
            "25%  a quarter",
        )
        assert (findings.running["lamp-1"].command, findings.done, findings.ended) == ("burn", False, False)
        waiting = asyncio.create_task(results_of(fleet, id, wait=30))
        await bench.send(fleet, "lamp-2", "echo", 1)
        bench.go_on.set()
        ended = await asyncio.wait_for(waiting, 20)
        assert value_of(ended.outcomes["lamp-1"]) == "burnt"
        assert (ended.done, ended.running) == (True, {})


async def test_the_wait_ends_when_it_is_over(bench: Bench) -> None:
    async with bench.serving("lamp-1") as fleet:
        id = await bench.begin(fleet, "lamp-1", "burn")
        heard: list[Reply] = []
        findings = await results_of(fleet, id, wait=0.2, heard=heard.append)
        assert findings.outcomes["lamp-1"].status is Status.RUNNING
        assert all(reply.message.id == id for reply in heard)


async def test_a_result_that_comes_meanwhile_from_another_process_is_taken(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "slow-1", "ready")
    await peer.subscribe(f"{bench.prefix}/groups/all/cmd/#")
    async with bench.fleet() as fleet:
        finding = asyncio.create_task(results_of(fleet, "c1"))
        topic = f"{bench.prefix}/devices/slow-1/result/tester"
        await peer.wait_for_count(2, 15)
        for asked in [message.json() for message in peer.messages]:
            result = {"device": "slow-1", "status": "done", "finished": 5}
            if asked["command"] == "result":  # it has ended between the two questions, and no journal keeps it
                await peer.publish(topic, {"id": "c1", "command": "dim", "value": 7, **result})
            value = list[object]() if asked["command"] == "jobs" else None
            await peer.publish(topic, {"id": asked["id"], "command": asked["command"], "value": value, **result})
        found = await asyncio.wait_for(finding, 20)
    assert value_of(found.outcomes["slow-1"]) == 7


async def test_devices_that_are_away_are_named_and_not_waited_for(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    await claim(peer, bench.prefix, "gone-2", "lost")
    await claim(peer, bench.prefix, "gone-1", "lost")
    await claim(peer, bench.prefix, "over-1", "terminated")
    async with bench.serving("lamp-1") as fleet:
        await until(fleet, lambda: len(fleet.roster.states) == 4)
        id = await bench.send(fleet, "lamp-1", "echo", 1)
        async with asyncio.timeout(5):
            findings, running = await results_of(fleet, id), await jobs(fleet)
            cancelled = await cancel(fleet, id)
        assert (findings.away, running.away, cancelled.findings.away) == ((("gone-1", "gone-2"),) * 3)
        assert (await jobs(fleet, "over-1")).away == ("over-1",)
        assert running.told == ("lamp-1",)


async def test_where_no_device_is_there_only_what_stands_is_told(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    result = {"id": "c1", "device": "gone-1", "command": "dim", "status": "done", "value": 3, "finished": 5}
    await peer.publish(f"{bench.prefix}/devices/gone-1/result/tester", result, retain=True)
    async with bench.fleet() as fleet:
        assert value_of((await results_of(fleet, "c1")).outcomes["gone-1"]) == 3
        assert (await jobs(fleet)).running == ()
        assert (await cancel(fleet, "c2")).findings.outcomes == {}


async def test_a_device_that_does_not_answer_or_not_sensibly_is_named(
    bench: Bench, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.controller.results.ANSWER_WAIT", 2.0)
    peer = await connect(Peer(bench.broker.address))
    for id in ("silent-1", "odd-1", "strict-1"):
        await claim(peer, bench.prefix, id, "ready")
    await peer.subscribe(f"{bench.prefix}/groups/all/cmd/#")
    async with bench.serving("lamp-1") as fleet:
        await until(fleet, lambda: len(fleet.roster.states) == 4)
        asking = asyncio.create_task(jobs(fleet))
        id = (await peer.wait_for_topic(f"{bench.prefix}/groups/all/cmd/tester", 15)).json()["id"]
        answer = {"id": id, "command": "jobs", "finished": 5}
        odd = {**answer, "device": "odd-1", "status": "done", "value": [{"id": 5}]}
        await peer.publish(f"{bench.prefix}/devices/odd-1/result/tester", odd)
        error = {"code": "unauthorized", "message": "no"}
        strict = {**answer, "device": "strict-1", "status": "rejected", "error": error}
        await peer.publish(f"{bench.prefix}/devices/strict-1/result/tester", strict)
        found = await asking
        assert found.told == ("lamp-1",)
        assert list(found.untold) == ["odd-1", "strict-1", "silent-1"]
        assert "cannot be read" in found.untold["odd-1"]
        assert "unauthorized" in found.untold["strict-1"]
        assert found.untold["silent-1"] == "no answer to jobs"


async def test_results_that_are_broken_or_of_another_device_are_passed_over(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    lie = {"id": "c1", "device": "lamp-2", "command": "dim", "status": "done", "value": 3, "finished": 5}
    await peer.publish(f"{bench.prefix}/devices/lamp-1/result/tester", lie, retain=True)
    await peer.publish(f"{bench.prefix}/devices/lamp-3/result/tester", b"\x00nonsense", retain=True)
    await peer.publish(f"{bench.prefix}/devices/lamp-4/result/tester", {"id": "no", "result": 1}, retain=True)
    async with bench.fleet() as fleet:
        assert await last_results(fleet) == []
        assert (await results_of(fleet, "c1")).outcomes == {}


async def test_a_result_in_messagepack_is_given_as_json(bench: Bench, connect: Connect) -> None:
    peer = await connect(Peer(bench.broker.address))
    packed = {"id": "c1", "device": "lamp-1", "command": "dim", "status": "done", "value": {"a": b"\0"}, "finished": 5}
    await peer.publish(f"{bench.prefix}/devices/lamp-1/result/tester", msgpack.encode(packed), retain=True)
    async with bench.fleet() as fleet:
        (standing,) = await last_results(fleet)
    assert standing.result.value == Raw(json.encode({"a": "AA=="}))


@pytest.mark.parametrize("id", ["", "a/b", "a b", "x" * 65, "é", "all", "+"])
async def test_an_id_that_no_command_can_have_is_refused(bench: Bench, id: str) -> None:
    async with bench.fleet() as fleet:
        for asked in (results_of, cancel):
            with pytest.raises(InvalidName, match="no command's id"):
                await asked(fleet, id)


async def test_jobs_of_all_requesters_are_found_oldest_first(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2") as fleet, bench.fleet("bob") as bob:
        first = await bench.begin(bob, "lamp-2", "burn")
        second = await bench.begin(fleet, "all", "burn")
        found = await jobs(fleet)
        assert (found.running[0].device, found.running[0].job.requester) == ("lamp-2", "bob")
        assert [each.job.id for each in found.running] == [first, second, second]
        assert {(each.job.command, each.job.fraction, each.job.text) for each in found.running} == {
            ("burn", 0.25, "a quarter")
        }
        assert [each.device for each in (await jobs(fleet, "lamp-1")).running] == ["lamp-1"]


async def test_another_process_of_the_requester_cancels_a_job_and_sees_it_end(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2", "lamp-3") as fleet:
        async with bench.fleet() as sender:
            id = await bench.begin(sender, "lamp-2", "burn")
        cancellation = await cancel(fleet, id)
        assert (cancellation.cancelled, cancellation.idle) == (("lamp-2",), ("lamp-1", "lamp-3"))
        assert {device: result.status for device, result in cancellation.findings.outcomes.items()} == {
            "lamp-2": Status.CANCELLED
        }
        assert cancellation.findings.ended
        assert (await jobs(fleet)).running == ()


async def test_cancelling_what_has_ended_tells_how_it_ended(bench: Bench) -> None:
    async with bench.serving("lamp-1") as fleet:
        id = await bench.send(fleet, "lamp-1", "echo", "before")
        await bench.send(fleet, "lamp-1", "echo", "later")
        cancellation = await cancel(fleet, id)
        assert (cancellation.cancelled, cancellation.idle) == ((), ("lamp-1",))
        assert value_of(cancellation.findings.outcomes["lamp-1"]) == "before"
        assert cancellation.findings.ended


async def test_a_job_of_another_requester_is_not_cancelled_and_whose_it_is_is_told(bench: Bench) -> None:
    async with bench.serving("lamp-1") as fleet, bench.fleet("bob") as bob:
        id = await bench.begin(bob, "lamp-1", "burn")
        cancellation = await cancel(fleet, id)
        assert (cancellation.cancelled, cancellation.findings.outcomes) == ((), {})
        assert cancellation.findings.strangers["lamp-1"].requester == "bob"
        assert len((await jobs(fleet)).running) == 1


async def test_a_function_that_does_not_end_is_running_still(bench: Bench) -> None:
    async with bench.serving("lamp-1") as fleet:
        id = await bench.begin(fleet, "lamp-1", "stubborn")
        cancellation = await cancel(fleet, id, wait=0.2)
        assert cancellation.cancelled == ("lamp-1",)
        assert cancellation.findings.outcomes["lamp-1"].status is Status.RUNNING
        assert not cancellation.findings.ended


class Lamp:
    """A device as a process of its own, to be killed and started again."""

    def __init__(self, bench: Bench, spawn: Processes, folder: Path) -> None:
        self._bench = bench
        self._spawn = spawn
        self._env = {"OUTRIDER_BROKER": bench.broker.address, "OUTRIDER_PREFIX": bench.prefix}
        self._env["XDG_CONFIG_HOME"] = str(folder)
        self._process = self._started()

    def kill(self) -> None:
        self._process.kill()

    def start(self) -> None:
        self._process = self._started()

    def _started(self) -> Spawned:
        return self._spawn(script("outrider-device"), "run", "--id", "lamp-1", "--ready", env=self._env)


@pytest.fixture
def process(bench: Bench, spawn: Processes, tmp_path: Path) -> Lamp:
    return Lamp(bench, spawn, tmp_path)


def has(fleet: Fleet, *statuses: str) -> Callable[[], bool]:
    return lambda: "lamp-1" in fleet.roster.states and fleet.roster.states["lamp-1"].status in statuses


async def test_a_device_that_is_killed_and_restarted_meanwhile_says_interrupted(bench: Bench, process: Lamp) -> None:
    async with bench.fleet() as fleet:
        await until(fleet, has(fleet, "ready"))
        id = await bench.begin(fleet, "lamp-1", "calculate", 10, "hi")
        heard = asyncio.Event()
        waiting = asyncio.create_task(results_of(fleet, id, wait=60, heard=lambda reply: heard.set()))
        await asyncio.wait_for(heard.wait(), 20)
        findings = await results_of(fleet, id)
        assert findings.outcomes["lamp-1"].status is Status.RUNNING
        process.kill()
        await until(fleet, has(fleet, "lost"))
        process.start()
        found = await asyncio.wait_for(waiting, 30)
        assert found.outcomes["lamp-1"].status is Status.INTERRUPTED
        assert "restarted" in told(found.outcomes["lamp-1"])


async def test_a_command_that_waits_for_its_device_is_cancelled_when_it_is_back(bench: Bench, process: Lamp) -> None:
    async with bench.fleet() as fleet:
        await until(fleet, has(fleet, "ready"))
        process.kill()
        await until(fleet, has(fleet, "lost"))
        dispatch = fleet.dispatch("lamp-1", "calculate", [300, "hi"], expires=3600)
        await dispatch.sent()
        cancellation = await cancel(fleet, dispatch.id)
        assert cancellation.findings.away == ("lamp-1",)
        process.start()
        await until(fleet, has(fleet, "ready"))
        async with asyncio.timeout(20):
            while not (findings := await results_of(fleet, dispatch.id, wait=5)).outcomes:
                pass
        assert findings.outcomes["lamp-1"].status is Status.CANCELLED


async def test_a_result_is_waited_for_through_a_restart_of_the_broker(
    restartable_broker: BrokerProcess, prefix: str, connect: Connect
) -> None:
    bench = Bench(started(restartable_broker), prefix)
    peer = await connect(Peer(restartable_broker.address))
    await peer.subscribe(f"{prefix}/devices/lamp-1/result/tester")
    async with bench.serving("lamp-1") as fleet:
        id = await bench.begin(fleet, "lamp-1", "burn")
        session = fleet.roster.states["lamp-1"].session
        waiting = asyncio.create_task(results_of(fleet, id, wait=60))
        await peer.wait_for(lambda message: message.json()["command"] == "result", 15)  # the last question's answer
        await restartable_broker.restart()
        await until(fleet, lambda: fleet.roster.states["lamp-1"].session > session)
        bench.go_on.set()
        found = await asyncio.wait_for(waiting, 30)
        assert value_of(found.outcomes["lamp-1"]) == "burnt"


async def test_a_broker_that_is_gone_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.fleet() as fleet:
        monkeypatch.setattr("outrider.controller.opening.OPENING", 0.0)
        with pytest.raises(BrokerUnreachable, match="answered no subscription"):
            await last_results(fleet)


@pytest.mark.parametrize(
    ("fraction", "text", "words"),
    [(None, None, ""), (0.4, None, "40%"), (None, "2 done", "2 done"), (1.0, "all", "100%  all")],
)
def test_progress_in_words(fraction: float | None, text: str | None, words: str) -> None:
    job = RunningJob(id="c1", command="x", requester="", behalf="", received=0, started=0, fraction=fraction, text=text)
    assert progress_words(job) == words
