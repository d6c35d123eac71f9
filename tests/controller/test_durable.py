"""Commands that are written down before they are sent, over the death of the process that sent them."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outrider.controller import Dispatch, Fleet
from outrider.controller.accounting import NotHere, outcomes_of
from outrider.controller.broker import BrokerProcess
from outrider.controller.durable import KEPT, KEPT_OPEN, DurableOutbox, OutboxUnusable, Place
from outrider.controller.plan import Plan
from outrider.device import Device, Job, Pace
from outrider.schema import BrokerUnreachable, Result, Status
from tests.brokers import BrokerUnderTest, started
from tests.controller.test_cli import Ended
from tests.peers import Connect, Peer
from tests.processes import Processes, Spawned, script, until
from tests.test_docs import ROOT, examples

PLACE = Place("localhost:1883", "", "tester")
QUICK = Pace(unanswered=(0.3, 0.6), accepted=(0.6,), soon=0.05, quiet=0.05, patience=0.3)


class Bench:
    """Devices in this process, what ran on them, and processes that ask them."""

    def __init__(self, broker: BrokerUnderTest, prefix: str, spawn: Processes, folder: Path) -> None:
        self.broker = broker
        self.prefix = prefix
        self.ran: list[str] = []
        self.go_on = asyncio.Event()
        self.path = folder / "outrider" / "outbox.sqlite"
        self.spawn = spawn
        self.env = {
            "OUTRIDER_BROKER": broker.address,
            "OUTRIDER_PREFIX": prefix,
            "OUTRIDER_NAME": "tester",
            "XDG_CONFIG_HOME": str(folder),
            "XDG_STATE_HOME": str(folder),
        }

    def fleet(self, requester: str = "tester", pace: Pace = QUICK) -> Fleet:
        return Fleet(self.broker.address, requester=requester, prefix=self.prefix, outbox=self.path, pace=pace)

    def device(self, id: str) -> Device:
        device = Device(id, groups=["lamps"], initial="ready")

        @device.command
        async def work(job: Job) -> str:
            self.ran.append(id)
            await self.go_on.wait()
            return id

        @device.command
        async def fail() -> None:
            self.ran.append(id)
            raise RuntimeError("worn out")

        return device

    @asynccontextmanager
    async def serving(self, *ids: str) -> AsyncGenerator[None]:
        devices = [self.device(id) for id in ids]
        async with asyncio.TaskGroup() as tasks, Fleet(self.broker.address, prefix=self.prefix) as fleet:
            for device in devices:
                tasks.create_task(device.serve(self.broker.address, prefix=self.prefix), name=device.id)
            await until(lambda: set(ids) <= {state.device for state in fleet.devices() if state.status == "ready"})
            try:
                yield
            finally:
                self.go_on.set()
                for device in devices:
                    device.stop()

    def start(self, *words: str) -> Spawned:
        return self.spawn(script("outrider"), *words, env=self.env)

    async def cli(self, *words: str) -> Ended:
        process = self.start(*words)
        code = await process.wait(45)
        assert "Traceback" not in process.errors, process
        return Ended(code, process.output, process.errors)

    def killed_in(self, where: str, *words: str) -> Spawned:
        """`outrider send --durable` that kills itself with SIGKILL where it would call a function."""
        module, _, name = where.rpartition(".")
        owner = module.rpartition(".")
        program = (
            f"import os, signal, sys; from {owner[0]} import {owner[2]}\n"
            "from outrider.controller.cli.main import main\n"
            f"{owner[2]}.{name} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"sys.argv[1:] = {['send', *words, '--durable']!r}; main()"
        )
        return self.spawn.python("-c", program, env=self.env)

    def unfinished(self) -> list[str]:
        with DurableOutbox(self.path) as outbox:
            return [brief.id for brief in outbox.unfinished()]


@pytest.fixture
def bench(broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path) -> Bench:
    return Bench(broker, prefix, spawn, tmp_path)


async def outcomes(dispatch: Dispatch) -> dict[str, Status]:
    async with asyncio.timeout(30):
        async for _ in dispatch:
            pass
    return {device: result.status for device, result in dispatch.outcomes.items()}


# Kill


async def test_sender_killed_after_it_published_is_accounted_for_by_another_process(bench: Bench) -> None:
    async with bench.serving("lamp-1", "lamp-2"):
        sender = bench.start("send", "@lamps", "work", "--durable")
        await until(lambda: len(bench.ran) == 2, 20)
        sender.kill()
        await sender.wait()
        (id,) = bench.unfinished()
        listed = await bench.cli("results")
        assert f"not ended: {id} work to @lamps (0 of 2 devices ended, good for" in listed.errors
        asking = bench.start("results", id)
        bench.go_on.set()
        assert await asking.wait(45) == 0, asking
        assert sorted(line.split()[:3] for line in asking.output.splitlines()[:2]) == [
            ["lamp-1", "done", "lamp-1"],
            ["lamp-2", "done", "lamp-2"],
        ]
        assert bench.unfinished() == []
        assert sorted(bench.ran) == ["lamp-1", "lamp-2"]
        again = await bench.cli("results", id)
        assert (again.code, again.output.count("done")) == (0, 3)


async def test_results_are_told_without_a_broker_as_far_as_they_are_written_down(
    restartable_broker: BrokerProcess, spawn: Processes, tmp_path: Path
) -> None:
    bench = Bench(started(restartable_broker), "", spawn, tmp_path)
    async with bench.serving("lamp-1"):
        bench.go_on.set()
        assert (await bench.cli("send", "lamp-1", "work", "--durable")).code == 0
        id = (await bench.cli("results")).output.splitlines()[1].split()[0]
        bench.go_on.clear()
        waiting = (await bench.cli("send", "lamp-1", "work", "--durable", "--no-wait")).output.strip()
        await restartable_broker.stop()
        alone = await bench.cli("results", id)
        assert (alone.code, alone.output.split()[:3], alone.errors) == (0, ["lamp-1", "done", "lamp-1"], "")
        listed = await bench.cli("results")
        assert listed.code == 3
        assert f"not ended: {waiting} work to lamp-1 (0 of 1 device ended, good for" in listed.errors
        assert (await bench.cli("results", waiting)).code == 3


async def test_sender_killed_before_it_published_is_made_up_for_by_another_process(bench: Bench) -> None:
    bench.go_on.set()
    async with bench.serving("lamp-1", "lamp-2"):
        sender = bench.killed_in("outrider.device.backlog.Backlog.publish", "lamp-1,lamp-2", "work")
        assert await sender.wait(20) == -9, sender
        assert bench.ran == []
        (id,) = bench.unfinished()
        ended = await bench.cli("results", id, "--json")
        assert (ended.code, ended.json[0]["counts"]) == (0, {"done": 2})
        assert sorted(bench.ran) == ["lamp-1", "lamp-2"]


async def test_sender_killed_before_it_wrote_anything_down_has_sent_nothing(bench: Bench) -> None:
    bench.go_on.set()
    async with bench.serving("lamp-1"):
        sender = bench.killed_in("outrider.controller.durable.DurableOutbox.add_sending", "lamp-1", "work")
        assert await sender.wait(20) == -9, sender
        assert bench.unfinished() == []
        assert (await bench.cli("send", "lamp-1", "work")).code == 0
        assert bench.ran == ["lamp-1"]


# Outcomes


async def test_outcomes_are_written_down_as_they_come_and_the_command_ends(bench: Bench) -> None:
    bench.go_on.set()
    async with bench.serving("lamp-1", "lamp-2"), bench.fleet() as fleet:
        done = fleet.dispatch("@lamps", "work")
        assert await outcomes(done) == {"lamp-1": Status.DONE, "lamp-2": Status.DONE}
        failed = fleet.dispatch("lamp-1", "fail")
        await outcomes(failed)
        assert await fleet.call("lamp-1", "work") == "lamp-1"
        assert await fleet.call("lamp-1", "jobs") == []
    with DurableOutbox(bench.path) as outbox:
        assert outbox.unfinished() == []
        kept = outbox.find(done.id)
        assert kept is not None
        assert (kept.place, kept.command, kept.target) == (fleet.place, "work", "@lamps")
        assert {device: each.outcome for device, each in kept.devices.items()} == done.outcomes
        kept = outbox.find(failed.id)
        assert kept is not None
        assert kept.devices["lamp-1"].outcome == failed.outcomes["lamp-1"]
    with sqlite3.connect(bench.path) as sql:
        assert sql.execute("SELECT command FROM commands ORDER BY issued").fetchall() == [
            ("work",),
            ("fail",),
            ("work",),
        ]
    sql.close()


async def test_terminated_devices_and_those_a_rollout_never_reached_are_accounted_for(
    bench: Bench, connect: Connect
) -> None:
    peer = await connect(Peer(bench.broker.address))
    for id, status in (("lamp-3", "terminated"), ("lamp-4", "ready")):
        state = {"device": id, "status": status, "session": 1, "since": 0}
        await peer.publish(f"{bench.prefix}/devices/{id}/state", state, retain=True)
    async with bench.serving("lamp-1"), bench.fleet() as fleet:
        gone = fleet.dispatch("lamp-1,lamp-3", "fail")
        assert await outcomes(gone) == {"lamp-1": Status.FAILED, "lamp-3": Status.OFFLINE}
        rollout = fleet.dispatch("lamp-1,lamp-4", "work", plan=Plan.of("1"))
        await rollout.sent()
        assert fleet.outbox is not None
        assert [brief.id for brief in fleet.outbox.unfinished()] == [rollout.id]
    bench.go_on.set()
    async with bench.serving("lamp-1"), bench.fleet() as fleet:  # the controller died in the first batch
        (resumed,) = fleet.resume()
        assert (await outcomes(resumed))["lamp-4"] is Status.CANCELLED


async def test_resume_goes_on_with_what_another_fleet_left_and_tells_what_is_known_first(
    bench: Bench, connect: Connect
) -> None:
    peer = await connect(Peer(bench.broker.address))
    await peer.subscribe(f"{bench.prefix}/devices/lamp-2/cmd/#")
    state = {"device": "lamp-2", "status": "ready", "session": 1, "since": 0}
    await peer.publish(f"{bench.prefix}/devices/lamp-2/state", state, retain=True)
    bench.go_on.set()
    async with bench.serving("lamp-1"):
        async with bench.fleet() as fleet:
            first = fleet.dispatch("lamp-1,lamp-2", "work", wait=1.0, expires=600)
            assert await outcomes(first) == {"lamp-1": Status.DONE, "lamp-2": Status.QUEUED}
        sent = peer.messages[0]
        async with bench.fleet("somebody-else") as other:
            assert other.resume() == []
        count = len(peer.messages)
        async with bench.fleet() as fleet:
            (resumed,) = fleet.resume()
            replies = aiter(resumed)
            known = await anext(replies)
            assert (known.device, known.message) == ("lamp-1", first.outcomes["lamp-1"])
            again = await peer.wait_for_topic(sent.topic, after=count)
            assert again.payload == sent.payload
            result = {"id": first.id, "device": "lamp-2", "command": "work", "status": "done", "finished": 1.0}
            await peer.publish(f"{bench.prefix}/devices/lamp-2/result/tester", result)
            assert (await anext(replies)).device == "lamp-2"
            assert [reply async for reply in replies] == []
            assert resumed.outcomes.keys() == {"lamp-1", "lamp-2"}
        async with bench.fleet() as fleet:
            assert fleet.resume() == []
    assert bench.ran == ["lamp-1"]


async def test_device_that_knows_nothing_of_an_expired_command_ends_it(bench: Bench) -> None:
    bench.go_on.set()
    async with bench.serving("lamp-1"):
        with DurableOutbox(bench.path, clock=lambda: 1000.0) as outbox:
            for id, accepted in (("a1", False), ("a2", True)):
                place = bench.fleet().place
                record = outbox.begin(id, place, ["lamp-1"], command="work", target="lamp-1")
                record.sending(["lamp-1"], b'{"id":"%s","command":"work","expires":1030}' % id.encode(), 1030.0)
                if accepted:
                    record.accepted("lamp-1")
        async with bench.fleet() as fleet:
            findings = [await outcomes_of(fleet, id) for id in ("a1", "a2")]
    first, second = (each.outcomes["lamp-1"] for each in findings if each is not None)
    assert first.status is Status.EXPIRED
    assert first.error is not None
    assert first.error.details == {"unknown": True}
    assert second.status is Status.INTERRUPTED
    assert second.error is not None
    assert "knows nothing of it any more" in second.error.message
    assert bench.ran == []
    assert bench.unfinished() == []


async def test_accepted_command_that_its_device_calls_expired_is_interrupted(bench: Bench, connect: Connect) -> None:
    with DurableOutbox(bench.path, clock=lambda: 1000.0) as outbox:
        record = outbox.begin("a1", bench.fleet().place, ["lamp-1"], command="work", target="lamp-1")
        record.sending(["lamp-1"], b'{"id":"a1","command":"work","expires":1030}', 1030.0)
        record.accepted("lamp-1")
    error = {"code": "", "message": "expired", "details": {"unknown": True}}
    forgotten = {"id": "a1", "device": "lamp-1", "command": "work", "status": "expired", "error": error}
    peer = await connect(Peer(bench.broker.address))
    await peer.publish(f"{bench.prefix}/devices/lamp-1/result/tester", forgotten, retain=True)
    async with bench.serving("lamp-1"), bench.fleet() as fleet:
        findings = await outcomes_of(fleet, "a1")
    await peer.publish(f"{bench.prefix}/devices/lamp-1/result/tester", b"", retain=True)
    assert findings is not None
    assert findings.outcomes["lamp-1"].status is Status.INTERRUPTED


@pytest.mark.parametrize(
    ("sent", "asked", "same"),
    [
        ("localhost:1883", "127.0.0.1:1883", True),
        ("[::1]:1883", "localhost:1883", True),
        ("localhost:1883", "localhost:1884", False),
        ("one:1883,two:1883", "two:1883", True),
        ("one:1883,two:1883", "three:1883", False),
        ("/run/mosquitto.sock", "/run/mosquitto.sock", True),
        ("/run/mosquitto.sock", "/run/other.sock", False),
    ],
)
def test_broker_is_known_by_any_of_its_hosts(tmp_path: Path, sent: str, asked: str, same: bool) -> None:
    with DurableOutbox(tmp_path / "outbox.sqlite") as outbox:
        record = outbox.begin("a1", Place(sent, "", "me"), ["lamp-1"], command="work", target="lamp-1")
        record.sending(["lamp-1"], b"{}", 1.0)
        assert [brief.id for brief in outbox.unfinished(Place(asked, "", "me"))] == ["a1"] * same
        assert outbox.unfinished(Place(asked, "", "you")) == []
        assert outbox.unfinished(Place(asked, "site", "me")) == []


async def test_command_of_another_requester_or_broker_is_not_gone_on_with(bench: Bench) -> None:
    async with bench.fleet() as fleet:
        assert fleet.outbox is not None
        here = fleet.place
        places = {
            "a1": (here._replace(requester="ann"), "--as ann"),
            "a2": (here._replace(prefix="site2"), "--prefix 'site2'"),
            "a3": (here._replace(broker="elsewhere:1"), "elsewhere:1"),
        }
        for id, (place, advice) in places.items():
            record = fleet.outbox.begin(id, place, ["lamp-1"], command="work", target="lamp-1")
            record.sending(["lamp-1"], b"{}", 1e10)
            with pytest.raises(NotHere, match=advice):
                await outcomes_of(fleet, id)
        assert await outcomes_of(fleet, "a4") is None
        assert fleet.resume() == []


async def test_command_that_could_not_be_sent_after_all_is_not_sent_later(bench: Bench) -> None:
    async with bench.serving("lamp-1"), bench.fleet() as fleet:
        assert fleet.outbox is not None
        fleet.connection.abort()
        with pytest.raises(BrokerUnreachable):
            fleet.dispatch("lamp-1", "work")
        assert fleet.outbox.unfinished() == []


async def test_python_example_of_the_page_goes_on_with_what_a_killed_process_sent(
    bench: Bench, spawn: Processes, tmp_path: Path
) -> None:
    bench.go_on.set()
    async with bench.serving("lamp-1"):
        sender = bench.killed_in("outrider.device.backlog.Backlog.publish", "lamp-1", "work")
        assert await sender.wait(20) == -9, sender
        for file in bench.path.parent.iterdir():  # what was written last is still in the file beside it
            file.rename(tmp_path / file.name)
        example = examples(ROOT / "docs" / "jobs.md")[2]
        named = f'"{bench.broker.address}", requester="tester", prefix="{bench.prefix}"'
        process = spawn.python("-c", example.replace('"mqtt://localhost"', named), cwd=tmp_path)
        assert await process.wait(30) == 0, process
        assert process.output == "lamp-1 done\n"
    assert bench.ran == ["lamp-1"]


# The file


def write(outbox: DurableOutbox, id: str, *devices: str, expires: float = 1e10) -> None:
    outbox.begin(id, PLACE, devices, command="work", target="all").sending(devices, b"{}", expires)


def result(id: str, device: str) -> Result:
    return Result(id=id, device=device, command="work", status=Status.DONE, finished=1.0)


async def test_several_processes_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with DurableOutbox(path) as one, DurableOutbox(path) as two:
        write(one, "a1", "lamp-1")
        write(two, "a2", "lamp-1")
        one.resume("a2").outcome(result("a2", "lamp-1"))
        await until(lambda: len(two.unfinished()) == 1)
        assert [brief.id for brief in two.unfinished(PLACE)] == ["a1"]
    assert path.stat().st_mode & 0o077 == 0


async def test_what_is_written_together_is_written_with_one_commit_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with DurableOutbox(path) as outbox, DurableOutbox(path) as other:
        with outbox.together():
            write(outbox, "a1", "lamp-1")
            write(outbox, "a2", "lamp-1")
            assert other.find("a1") is None
        assert [brief.id for brief in other.unfinished()] == ["a1", "a2"]
        with outbox.together():
            write(outbox, "a3", "lamp-1")
            with pytest.raises(OutboxUnusable):  # the same id again: that one alone is not written
                write(outbox, "a3", "lamp-2")
        assert [*(other.find("a3") or pytest.fail("it is not written")).devices] == ["lamp-1"]

        def fail() -> None:
            with outbox.together():
                write(outbox, "a4", "lamp-1")
                raise OutboxUnusable("the disk is full")

        with pytest.raises(OutboxUnusable, match="full"):
            fail()
        assert other.find("a4") is None


async def test_ended_commands_go_after_a_week_and_unanswered_ones_a_month_after_they_expire(tmp_path: Path) -> None:
    now = 1e9
    with DurableOutbox(tmp_path / "outbox.sqlite", clock=lambda: now) as outbox:
        for id in ("ended", "open"):
            write(outbox, id, "lamp-1", expires=now + 30)
        outbox.resume("ended").outcome(result("ended", "lamp-1"))
        await until(lambda: len(outbox.unfinished()) == 1)
        for later, kept in ((KEPT - 1, {"ended", "open"}), (KEPT + 1, {"open"}), (KEPT_OPEN + 31, set[str]())):
            now = 1e9 + later
            write(outbox, f"at-{later:.0f}", "lamp-1")
            assert {id for id in ("ended", "open") if outbox.find(id)} == kept


async def test_full_outbox_lets_go_of_what_has_ended_and_then_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.controller.durable.MOST", 4)
    with DurableOutbox(tmp_path / "outbox.sqlite") as outbox:
        write(outbox, "a1", "lamp-1", "lamp-2")
        write(outbox, "a2", "lamp-1", "lamp-2")
        with pytest.raises(OutboxUnusable, match="is full"):
            write(outbox, "a3", "lamp-1")
        for device in ("lamp-1", "lamp-2"):
            outbox.resume("a1").outcome(result("a1", device))
        await until(lambda: len(outbox.unfinished()) == 1)
        write(outbox, "a3", "lamp-1")
        assert outbox.find("a1") is None


async def test_outbox_that_counts_now_and_then_goes_over_its_size_by_a_hundredth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.controller.durable.MOST", 200)
    with DurableOutbox(tmp_path / "outbox.sqlite") as outbox:
        ids = [f"a{number}" for number in range(240)]
        for id in ids:
            write(outbox, id, "lamp-1")
            outbox.resume(id).outcome(result(id, "lamp-1"))
            outbox.unfinished()  # writes what was gathered
        assert 200 <= sum(outbox.find(id) is not None for id in ids) <= 202


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to be taken for one" * 20)


def foreign(path: Path) -> None:
    sql = sqlite3.connect(path)
    sql.execute("CREATE TABLE recipes (name)")
    sql.close()


def newer(path: Path) -> None:
    DurableOutbox(path).close()
    sql = sqlite3.connect(path)
    sql.execute("PRAGMA user_version = 99")
    sql.close()


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (damaged, "file is not a database.*it is damaged: move it away"),
        (foreign, "a database of another program"),
        (newer, "of a newer outrider"),
        (folder, "cannot be opened: Is a directory"),
    ],
)
async def test_outbox_that_cannot_be_used_is_a_clear_error_and_nothing_is_sent(
    bench: Bench, make: Callable[[Path], None], words: str
) -> None:
    bench.go_on.set()
    bench.path.parent.mkdir(parents=True)
    make(bench.path)
    with pytest.raises(OutboxUnusable, match=words):
        DurableOutbox(bench.path)
    async with bench.serving("lamp-1"):
        sent = await bench.cli("send", "lamp-1", "work", "--durable")
        assert (sent.code, sent.output) == (1, "")
        assert sent.errors.startswith("error: ")
        assert str(bench.path) in sent.errors
        assert bench.ran == []
        listed = await bench.cli("results")
        assert listed.code == 0
        assert str(bench.path) in listed.errors


async def test_locked_outbox_is_a_clear_error_and_nothing_is_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.controller.durable.LOCKED", 0.2)
    async with bench.serving("lamp-1"), bench.fleet() as fleet:
        sql = sqlite3.connect(bench.path, isolation_level=None)
        sql.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutboxUnusable, match=r"another process has held it for 0\.2 s"):
            fleet.dispatch("lamp-1", "work")
        sql.close()
        assert await fleet.call("lamp-1", "jobs") == []
    assert bench.ran == []


async def test_full_disk_is_a_clear_error_and_nothing_is_sent(bench: Bench) -> None:
    async with bench.serving("lamp-1"):
        words = f"ulimit -f 8; exec {script('outrider')} send lamp-1 work --durable"
        process = bench.spawn("bash", "-c", words, env=bench.env)
        assert await process.wait(30) == 1, process
        assert f"error: the durable outbox {bench.path} cannot be used" in process.errors
        assert "disk" in process.errors
    assert bench.ran == []


async def test_outcomes_that_cannot_be_written_at_once_are_written_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.controller.durable.LOCKED", 0.05)
    bench.go_on.set()
    async with bench.serving("lamp-1"), bench.fleet() as fleet:
        dispatch = fleet.dispatch("lamp-1", "work")
        sql = sqlite3.connect(bench.path, isolation_level=None)
        sql.execute("BEGIN IMMEDIATE")
        assert await outcomes(dispatch) == {"lamp-1": Status.DONE}
        with pytest.raises(AssertionError):
            await until(lambda: bench.unfinished() == [], timeout=0.5)
        sql.close()
        await until(lambda: bench.unfinished() == [])
