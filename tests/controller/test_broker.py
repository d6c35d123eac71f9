"""The broker launcher and `outrider broker`: real brokers, real processes."""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.controller.broker import (
    MAX_PACKET_SIZE,
    MOSQUITTO_SETTINGS,
    BrokerKind,
    BrokerNotInstalled,
    BrokerNotStarted,
    BrokerProcess,
    PortTaken,
    find_mosquitto,
    has_embedded,
    is_loopback,
    start_broker,
)
from tests.brokers import STARTED, BrokerUnderTest, kind_or_skip
from tests.peers import Connect, Peer, Will
from tests.processes import Processes, Spawned, exists, until

ROOT = Path(__file__).parents[2]
VERSIONS = ("5", "3.1.1")
COMMAND = "import typer; from outrider.controller.cli.broker import broker; typer.run(broker)"


@pytest.fixture(params=STARTED)
def kind(request: pytest.FixtureRequest) -> BrokerKind:
    return kind_or_skip(request.param)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def no_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.controller.broker.find_mosquitto", lambda: None)


@pytest.fixture
def no_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.controller.broker.has_embedded", lambda: False)


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def arguments_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def free_pair() -> int:
    """A port that is free, and the one after it too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture
def embedded() -> BrokerKind:
    return kind_or_skip("embedded")


class TestDeaf:
    async def test_broker_that_takes_connections_is_not_deaf(self, kind: BrokerKind) -> None:
        async with start_broker(kind=kind, verbose=True) as broker:
            assert not await broker.deaf()

    async def test_embedded_broker_that_takes_no_connections_is_deaf_until_restarted(
        self, embedded: BrokerKind
    ) -> None:
        async with start_broker(kind=embedded, verbose=True) as broker:
            ports = broker.ports
            os.kill(broker.pid, signal.SIGSTOP)
            assert await broker.deaf()
            await broker.restart()
            assert broker.ports == ports
            assert not await broker.deaf()

    async def test_outrider_broker_starts_a_deaf_embedded_broker_again(
        self, embedded: BrokerKind, spawn: Processes
    ) -> None:
        port = free_pair()
        process = spawn.python("-c", COMMAND, "--port", str(port), "--kind", embedded, "--verbose")
        pid = await process.wait_for(r"rumqttd \(process (\d+)\)")
        os.kill(int(pid[1]), signal.SIGSTOP)
        await process.wait_for("started again on the same ports", timeout=30)
        async with Peer(f"mqtt://127.0.0.1:{port}", "5") as peer:
            await peer.round_trip()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


class TestStart:
    async def test_started_broker_accepts_mqtt_of_each_version_at_once(self, kind: BrokerKind) -> None:
        async with start_broker(kind=kind) as broker:
            assert broker.kind is kind
            assert broker.host == "127.0.0.1"
            assert broker.address == f"mqtt://127.0.0.1:{broker.ports['5']}"
            for version in VERSIONS:
                async with Peer(broker.address_for(version), version) as peer:
                    await peer.round_trip()

    async def test_given_port_speaks_mqtt_5(self, kind: BrokerKind) -> None:
        port = free_pair()
        async with start_broker(port, kind) as broker:
            assert broker.ports["5"] == port
            assert broker.ports["3.1.1"] == (port if kind == "mosquitto" else port + 1)
            async with Peer(broker.address, "5") as peer:
                await peer.round_trip()

    async def test_pid_is_the_brokers_own_process(self, kind: BrokerKind) -> None:
        async with start_broker(kind=kind) as broker:
            assert ("mosquitto" if kind == "mosquitto" else "iotcore") in arguments_of(broker.pid)

    async def test_configuration_is_not_left_behind(
        self, kind: BrokerKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        async with start_broker(kind=kind):
            assert names_in(tmp_path) == []

    async def test_auto_prefers_mosquitto(self) -> None:
        if find_mosquitto() is None:
            pytest.skip("mosquitto is not installed")
        async with start_broker() as broker:
            assert broker.kind == "mosquitto"

    @pytest.mark.usefixtures("no_mosquitto")
    async def test_auto_without_mosquitto_is_the_embedded_broker(self) -> None:
        if not has_embedded():
            pytest.skip("the embedded broker is not installed")
        async with start_broker() as broker:
            assert broker.kind == "embedded"

    @pytest.mark.usefixtures("no_mosquitto", "no_embedded")
    async def test_no_broker_installed_says_what_to_install(self) -> None:
        with pytest.raises(BrokerNotInstalled) as caught:
            async with start_broker():
                pass
        assert "apt install mosquitto" in str(caught.value)
        assert "pip install 'outrider-controller[broker]'" in str(caught.value)

    @pytest.mark.usefixtures("no_mosquitto")
    async def test_kind_not_installed_names_only_that_kind(self) -> None:
        with pytest.raises(BrokerNotInstalled, match=r"the mosquitto broker is not installed.*apt install") as caught:
            async with start_broker(kind=BrokerKind.MOSQUITTO):
                pass
        assert "pip install" not in str(caught.value)

    async def test_taken_port_says_where_and_what_to_do(self, kind: BrokerKind, taken_port: int) -> None:
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{taken_port} is taken.*not by an MQTT broker.*--port"):
            async with start_broker(taken_port, kind):
                pass

    async def test_port_of_another_broker_offers_to_use_that_one(
        self, kind: BrokerKind, restartable_broker: BrokerProcess
    ) -> None:
        port = restartable_broker.ports["5"]
        with pytest.raises(PortTaken, match=rf"an MQTT broker answers there.*--broker mqtt://127\.0\.0\.1:{port}"):
            async with start_broker(port, kind):
                pass

    async def test_taken_second_port_of_the_embedded_broker_is_named(self, embedded: BrokerKind) -> None:
        first = free_pair()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", first + 1))
            listener.listen()
            with pytest.raises(PortTaken, match=f":{first + 1} is taken"):
                async with start_broker(first, embedded):
                    pass

    async def test_foreign_host_is_refused(self, kind: BrokerKind) -> None:
        # Of the documentation network, RFC 5737: no machine has it.
        with pytest.raises(BrokerNotStarted, match=r"cannot listen on 192\.0\.2\.1:.*--host"):
            async with start_broker(18830, kind, host="192.0.2.1"):
                pass

    async def test_unknown_host_is_refused(self, kind: BrokerKind) -> None:
        with pytest.raises(BrokerNotStarted, match=r"no address for the host 'no such host'"):
            async with start_broker(kind=kind, host="no such host"):
                pass

    async def test_broker_that_ends_instead_shows_its_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = tmp_path / "mosquitto"
        broken.write_text("#!/bin/sh\necho 'Error: no luck today' >&2\nexit 3\n")
        broken.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        with pytest.raises(BrokerNotStarted, match=r"(?s)ended with exit code 3.*no luck today"):
            async with start_broker(kind=BrokerKind.MOSQUITTO):
                pass

    async def test_broker_that_stays_silent_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("outrider.controller.broker.START_LIMIT", 0.5)
        silent = tmp_path / "mosquitto"
        silent.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
        silent.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        with pytest.raises(BrokerNotStarted, match=r"did not accept MQTT connections within 0\.5 s"):
            async with start_broker(kind=BrokerKind.MOSQUITTO):
                pass
        assert not exists(int((tmp_path / "pid").read_text()))


class TestEnd:
    async def test_end_of_the_block_ends_the_process(self, kind: BrokerKind) -> None:
        async with start_broker(kind=kind) as broker:
            pid = broker.pid
            async with Peer(broker.address) as peer:
                await peer.round_trip()
                await broker.stop()
                await peer.wait_disconnected()
        assert not exists(pid)
        assert not broker.running
        await broker.stop()

    async def test_restart_keeps_the_ports_and_forgets_everything(
        self, restartable_broker: BrokerProcess, unique: str
    ) -> None:
        broker, ports, pid = restartable_broker, restartable_broker.ports, restartable_broker.pid
        async with Peer(broker.address) as before:
            await before.publish(unique, b"kept in memory only", retain=True)
            await broker.restart()
            await before.wait_disconnected()
        assert (broker.ports, broker.pid != pid) == (ports, True)
        async with Peer(broker.address) as after:
            await after.subscribe(unique)
            await after.round_trip()
            assert after.messages == []

    async def test_killed_broker_can_be_started_again(self, restartable_broker: BrokerProcess) -> None:
        pid = restartable_broker.pid
        await restartable_broker.kill()
        assert not exists(pid)
        with pytest.raises(BrokerNotStarted, match="is not running"):
            _ = restartable_broker.pid
        await restartable_broker.start()
        async with Peer(restartable_broker.address) as peer:
            await peer.round_trip()

    async def test_second_start_is_refused(self, restartable_broker: BrokerProcess) -> None:
        with pytest.raises(BrokerNotStarted, match="already running"):
            await restartable_broker.start()

    async def test_wait_returns_when_the_broker_dies(self, restartable_broker: BrokerProcess) -> None:
        os.kill(restartable_broker.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            assert await restartable_broker.wait() == 128 + signal.SIGKILL
        assert not restartable_broker.running

    async def test_stopped_broker_that_ignores_sigterm_is_killed(
        self, restartable_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("outrider.controller.broker.STOP_LIMIT", 0.1)
        pid = restartable_broker.pid
        os.kill(pid, signal.SIGSTOP)
        await restartable_broker.stop()
        await until(lambda: not exists(pid))

    async def test_broker_dies_with_a_killed_parent(self, kind: BrokerKind, spawn: Processes) -> None:
        code = f"""
import asyncio
from outrider.controller.broker import BrokerKind, start_broker
async def main():
    async with start_broker(kind=BrokerKind("{kind}")) as broker:
        print("broker", broker.pid)
        await asyncio.sleep(60)
asyncio.run(main())
"""
        parent = spawn.python("-c", code)
        pid = int((await parent.wait_for(r"broker (\d+)"))[1])
        parent.kill()
        await until(lambda: not exists(pid))


class TestSettings:
    def test_development_conf_agrees_with_the_launcher(self) -> None:
        text = (ROOT / "mosquitto" / "development.conf").read_text()
        assert {line for line in _settings(text) if not line.startswith("log_")} == {
            "listener 1883 127.0.0.1",
            *_settings(MOSQUITTO_SETTINGS),
        }

    async def test_large_messages_pass_and_larger_ones_do_not(
        self, restartable_broker: BrokerProcess, unique: str
    ) -> None:
        for version in VERSIONS:
            address = restartable_broker.address_for(version)
            async with Peer(address, version) as peer, Peer(address, version) as hostile:
                await peer.subscribe(unique)
                large = bytes(MAX_PACKET_SIZE - 1000)
                await peer.publish(unique, large)
                assert (await peer.wait_for_topic(unique)).payload == large
                with contextlib.suppress(ConnectionError):
                    hostile.send(unique, bytes(MAX_PACKET_SIZE + 1000))
                await hostile.wait_disconnected()
                assert len(peer.messages) == 1

    @pytest.mark.parametrize(
        ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
    )
    def test_loopback_is_told_from_the_rest(self, host: str, expected: bool) -> None:
        assert is_loopback(host) is expected


def _settings(configuration: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in configuration.splitlines())
    return [" ".join(line.split()) for line in lines if line]


@pytest.mark.parametrize("version", VERSIONS)
class TestWhatTheProtocolNeeds:
    """What outrider's protocol takes for granted, on every broker that the tests run against."""

    async def test_retained_message_is_kept_replaced_and_cleared(
        self, broker: BrokerUnderTest, version: str, prefix: str, connect: Connect
    ) -> None:
        address, topic = broker.address_for(version), f"{prefix}/retained"
        writer = await connect(Peer(address, version))
        await writer.publish(topic, b"first", retain=True)
        await writer.publish(topic, b"second", retain=True)
        reader = await connect(Peer(address, version))
        await reader.subscribe(topic)
        first = await reader.wait_for_topic(topic)
        assert (first.payload, first.retain, first.qos) == (b"second", True, 1)
        await writer.publish(topic, b"", retain=True)
        late = await connect(Peer(address, version))
        await late.subscribe(topic)
        await late.round_trip()
        assert late.messages == []

    async def test_will_is_published_retained_after_a_crash_only(
        self, broker: BrokerUnderTest, version: str, prefix: str, connect: Connect
    ) -> None:
        address, topic = broker.address_for(version), f"{prefix}/will"
        watcher = await connect(Peer(address, version))
        await watcher.subscribe(topic)
        polite = await connect(Peer(address, version, will=Will(topic, b"polite", retain=True)))
        await polite.close()
        crashed = await connect(Peer(address, version, will=Will(topic, b"crashed", retain=True)))
        await crashed.drop()
        message = await watcher.wait_for_topic(topic)
        assert (message.payload, message.qos) == (b"crashed", 1)
        late = await connect(Peer(address, version))
        await late.subscribe(topic)
        assert (await late.wait_for_topic(topic)).retain

    async def test_persistent_session_keeps_messages_until_a_clean_start(
        self, broker: BrokerUnderTest, version: str, prefix: str, unique: str, connect: Connect
    ) -> None:
        address, topic = broker.address_for(version), f"{prefix}/session"
        sleeper = f"sleeper-{unique}"

        def resumed() -> Peer:
            return Peer(address, version, client_id=sleeper, clean=False, session_expiry=3600)

        first = await connect(resumed())
        assert not first.session_present
        await first.subscribe(topic)
        await first.close()
        writer = await connect(Peer(address, version))
        for number in range(200):
            await writer.publish(topic, str(number))
        second = await connect(resumed())
        assert second.session_present
        await second.wait_for_count(200)
        assert [message.payload for message in second.messages] == [str(number).encode() for number in range(200)]
        await second.close()
        await (await connect(Peer(address, version, client_id=sleeper))).close()
        last = await connect(resumed())
        assert not last.session_present
        await last.close()
        await (await connect(Peer(address, version, client_id=sleeper))).close()

    async def test_same_client_id_takes_the_connection_over(
        self, broker: BrokerUnderTest, version: str, prefix: str, unique: str, connect: Connect
    ) -> None:
        address = broker.address_for(version)
        old = await connect(Peer(address, version, client_id=f"twin-{unique}"))
        new = await connect(Peer(address, version, client_id=f"twin-{unique}"))
        await old.wait_disconnected()
        await new.subscribe(f"{prefix}/twin")
        await new.publish(f"{prefix}/twin", b"here")
        await new.wait_for_topic(f"{prefix}/twin")

    async def test_versions_hear_each_other(
        self, broker: BrokerUnderTest, version: str, prefix: str, connect: Connect
    ) -> None:
        other = next(name for name in VERSIONS if name != version)
        listener = await connect(Peer(broker.address_for(version), version))
        speaker = await connect(Peer(broker.address_for(other), other))
        await listener.subscribe(f"{prefix}/#")
        await speaker.publish(f"{prefix}/across", b"hello")
        await listener.wait_for_topic(f"{prefix}/across")


class TestCommand:
    @pytest.fixture
    async def command(self, kind: BrokerKind, spawn: Processes) -> Spawned:
        command = spawn.python("-c", COMMAND, "--port", "0", "--kind", kind)
        await command.wait_for("Ctrl-C ends it")
        return command

    async def test_output_tells_ports_versions_and_the_export_line(self, command: Spawned, kind: BrokerKind) -> None:
        address = (await command.wait_for(r"^  export OUTRIDER_BROKER=(mqtt://127\.0\.0\.1:(\d+))$"))[1]
        async with Peer(address, "5") as peer:
            await peer.round_trip()
        port = address.rpartition(":")[2]
        if kind == "mosquitto":
            assert f"  127.0.0.1 port {port}: MQTT 5 and 3.1.1\n" in command.output
        else:
            assert f"  127.0.0.1 port {port}: MQTT 5\n" in command.output
            other = (await command.wait_for(r"^  127\.0\.0\.1 port (\d+): MQTT 3\.1\.1$"))[1]
            async with Peer(f"mqtt://127.0.0.1:{other}", "3.1.1") as old:
                await old.round_trip()
        assert command.errors == ""

    async def test_every_mosquitto_pub_line_works_as_printed(
        self, command: Spawned, kind: BrokerKind, spawn: Processes
    ) -> None:
        if shutil.which("mosquitto_pub") is None:
            pytest.skip("mosquitto_pub is not installed: apt install mosquitto-clients")
        address = (await command.wait_for(r"OUTRIDER_BROKER=(\S+)"))[1]
        lines = [line.strip() for line in command.output.splitlines() if line.startswith("  mosquitto_pub ")]
        assert len(lines) == (1 if kind == "mosquitto" else 2)
        async with Peer(address) as peer:
            await peer.subscribe("devices/+/cmd")
            for count, line in enumerate(lines, 1):
                assert await spawn(*shlex.split(line)).wait() == 0
                messages = await peer.wait_for_count(count)
                assert messages[-1].json() == {"command": "ping"}

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_signal_ends_it_with_exit_code_0(self, command: Spawned, number: signal.Signals) -> None:
        pid = int((await command.wait_for(r"process (\d+)"))[1])
        command.send_signal(number)
        assert await command.wait() == 0
        assert not exists(pid)
        assert command.errors == ""

    async def test_death_of_the_broker_exits_3(self, command: Spawned) -> None:
        pid = int((await command.wait_for(r"process (\d+)"))[1])
        os.kill(pid, signal.SIGKILL)
        assert await command.wait() == 3
        assert "ended by itself with exit code 137" in command.errors

    async def test_taken_port_exits_3_with_one_line(self, kind: BrokerKind, taken_port: int, spawn: Processes) -> None:
        command = spawn.python("-c", COMMAND, "--port", str(taken_port), "--kind", kind)
        assert await command.wait() == 3
        assert command.output == ""
        assert command.errors.count("\n") == 1
        assert f"error: 127.0.0.1:{taken_port} is taken" in command.errors

    async def test_bad_options_exit_2(self, spawn: Processes) -> None:
        for options in (("--port", "70000"), ("--kind", "rabbit")):
            command = spawn.python("-c", COMMAND, *options)
            assert await command.wait() == 2
            assert options[0] in command.errors

    async def test_other_host_than_loopback_is_warned_about(self, kind: BrokerKind, spawn: Processes) -> None:
        command = spawn.python("-c", COMMAND, "--port", "0", "--kind", kind, "--host", "0.0.0.0")
        await command.wait_for("Ctrl-C ends it")
        assert "warning: on 0.0.0.0 everybody who reaches this machine can command your devices" in command.errors
        address = (await command.wait_for(r"OUTRIDER_BROKER=(mqtt://127\.0\.0\.1:\d+)"))[1]
        async with Peer(address) as peer:
            await peer.round_trip()
        command.terminate()
        assert await command.wait() == 0

    async def test_verbose_shows_the_brokers_log(self, spawn: Processes) -> None:
        kind = kind_or_skip("mosquitto")
        command = spawn.python("-c", COMMAND, "--port", "0", "--kind", kind, "--verbose")
        await command.wait_for("New client connected", errors=True)
        command.terminate()
        assert await command.wait() == 0
