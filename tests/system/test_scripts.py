"""A device that allows scripts: `outrider-device run --allow-scripts`, by hand-made messages."""

import asyncio
import base64
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.device.scripts.wheels import make_wheel
from tests.processes import Processes, script, until
from tests.scripting import ALLOWED
from tests.system.conftest import ROOT, Launch, Meet, at_ready
from tests.system.outsider import Decoded, Outsider

PATIENCE = 30.0
"""Seconds for a script's end, on a machine where others work too."""

Begin = Callable[..., Awaitable[Outsider]]


@pytest.fixture
def begin(launch: Launch, meet: Meet) -> Begin:
    """Start a device that allows scripts, and meet it as somebody."""

    async def begun(*arguments: str, encoding: str = "json") -> Outsider:
        device = launch("--ready", *ALLOWED, *arguments)
        return await at_ready(meet(device, encoding=encoding))

    return begun


async def run(outsider: Outsider, source: object = None, **args: object) -> Decoded:
    """The result of run_script."""
    given = args if source is None else {"source": source, **args}
    return await outsider.result(await outsider.start("run_script", given), timeout=PATIENCE)


def sent(outsider: Outsider, id: str, stream: str) -> str:
    return "".join(each["data"] for each in outsider.progress(id) if each.get("stream") == stream)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_script_is_run_with_what_it_is_given(begin: Begin, encoding: str) -> None:
    outsider = await begin(encoding=encoding)
    source = "import sys; print(sys.argv[1:], sys.stdin.read(), 'ä'); print('wrong', file=sys.stderr); sys.exit(3)"
    id = await outsider.start("run_script", {"source": source, "args": ["a b", "ö"], "stdin": "größe\n"})
    result = await outsider.result(id, timeout=PATIENCE)
    value = result["value"]
    assert result["status"] == "done"
    assert (value["exit_code"], value["killed_by"]) == (3, None)
    assert value["stdout"] == sent(outsider, id, "stdout") == "['a b', 'ö'] größe\n ä\n"
    assert value["stderr"] == sent(outsider, id, "stderr") == "wrong\n"
    assert value["duration"] > 0
    assert value["peak_memory"] > 0


async def test_output_comes_while_the_script_runs_and_cancel_ends_it(begin: Begin) -> None:
    outsider = await begin()
    id = await outsider.start("run_script", {"source": "print('here', flush=True)\nimport time\ntime.sleep(60)"})
    async with asyncio.timeout(PATIENCE):
        while "here" not in sent(outsider, id, "stdout"):
            await outsider.peer.round_trip()
    assert (await outsider.ask("cancel", {"id": id}))["value"] is True
    assert (await outsider.result(id, timeout=PATIENCE))["status"] == "cancelled"


async def test_script_that_takes_too_long_is_timed_out(begin: Begin) -> None:
    outsider = await begin("--script-timeout", "1")
    result = await run(outsider, "import time; time.sleep(60)")
    assert result["status"] == "timed_out"
    assert (await run(outsider, "print(1)"))["value"]["stdout"] == "1\n"


async def test_several_files_are_run_and_stay(begin: Begin) -> None:
    outsider = await begin()
    files = {"main.py": "from lib import tools\nprint(tools.X, open('data').read())", "lib/tools.py": "X = 'x'"}
    assert (await run(outsider, "open('data', 'w').write('kept')"))["value"]["exit_code"] == 0
    assert (await run(outsider, files=files))["value"]["stdout"] == "x kept\n"
    listed = (await outsider.ask("list_files"))["value"]
    assert [file["name"] for file in listed] == ["data", "lib/tools.py", "main.py", "script.py"]
    chunk = (await outsider.ask("fetch_file", {"name": "data", "offset": 1, "length": 2}))["value"]
    assert (base64.b64decode(chunk["data"]), chunk["size"], chunk["offset"]) == (b"ep", 4, 1)
    assert (await outsider.ask("purge"))["value"] == 4
    assert (await outsider.ask("list_files"))["value"] == []


async def test_file_larger_than_a_message_is_fetched_in_parts(begin: Begin) -> None:
    outsider = await begin()
    await run(outsider, "import random; open('large', 'wb').write(random.Random(1).randbytes(500_000))")
    parts: list[bytes] = []
    while (at := sum(map(len, parts))) < 500_000:
        result = await outsider.ask("fetch_file", {"name": "large", "offset": at})
        parts.append(base64.b64decode(result["value"]["data"]))
        assert len(parts[-1]) > 100_000 or at + len(parts[-1]) == 500_000
    assert b"".join(parts) == random.Random(1).randbytes(500_000)


async def test_script_that_runs_is_among_its_owners_jobs_alone(begin: Begin, meet: Meet) -> None:
    ann = await begin()
    id = await ann.start("run_script", {"source": "print(1, flush=True)\nimport time; time.sleep(60)"})
    async with asyncio.timeout(PATIENCE):
        while not sent(ann, id, "stdout"):
            await ann.peer.round_trip()
    bob = await meet(ann.device, name="bob")
    seen = [[job["command"] for job in (await each.ask("jobs"))["value"]] for each in (ann, bob)]
    assert ["run_script" in each for each in seen] == [True, False]
    assert (await ann.ask("cancel", {"id": id}))["value"] is True


async def test_other_requester_finds_nothing_of_it(begin: Begin, meet: Meet) -> None:
    ann = await begin()
    await run(ann, "open('secret.txt', 'w').write('mine')")
    bob = await meet(ann.device, name="bob")
    assert (await bob.ask("list_files"))["value"] == []
    result = await bob.ask("fetch_file", {"name": "secret.txt"})
    assert (result["status"], result["error"]["code"]) == ("failed", "error")
    found = await run(bob, "import os; print(os.listdir(), os.path.exists('secret.txt'))")
    assert found["value"]["stdout"] == "['script.py'] False\n"
    assert (await ann.ask("list_files", behalf="somebody"))["value"] == []
    assert (await bob.ask("purge"))["value"] == 1
    assert len((await ann.ask("list_files"))["value"]) == 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "there is no script"),
        ({"source": "", "files": {"a.py": ""}}, "both given"),
        ({"files": {}}, "there is no script"),
        ({"files": {"a.py": "", "b.py": ""}}, "Say main=NAME"),
        ({"files": {"a.py": ""}, "main": "b.py"}, "none of the files"),
        ({"source": "", "main": "../x.py"}, "no file's name"),
        ({"source": "", "main": "x\u0000.py"}, "cannot be printed"),
        ({"source": "", "main": "x" * 300 + ".py"}, "too long"),
        ({"source": "", "main": "/etc/x.py"}, "no file's name"),
        ({"source": "", "main": "x.sh"}, "takes *.py"),
        ({"source": "", "args": ["a\u0000b"]}, "NUL"),
        ({"source": "", "args": ["x" * 140_000]}, "stdin"),
        ({"source": "", "limits": {"memory": 10**12}}, "limits.memory"),
        ({"source": "", "limits": {"output": 10**9}}, "limits.output"),
        ({"source": "", "requirements": ["httpx"]}, "--script-no-packages"),
        ({"source": "# /// script\n# requires-python = '>=4'\n# ///\n"}, "requires Python >=4"),
        ({"source": "# /// script\n# dependencies = ['httpx']\n# ///\n"}, "--script-no-packages"),
        ({"source": "# /// script\n# x\n# ///\n"}, "not well formed"),
    ],
)
async def test_what_is_not_taken_fails_with_words(scripting: Outsider, args: dict[str, object], says: str) -> None:
    result = await run(scripting, **args)
    assert (result["status"], result["error"]["code"]) == ("failed", "error")
    assert result["error"]["message"].startswith("ScriptRefused: ")
    assert says in result["error"]["message"]


@pytest.mark.parametrize("limits", [{"memory": 1}, {"cpu": 0}, {"speed": 1}, {"processes": "many"}])
async def test_limits_that_are_none_are_rejected(scripting: Outsider, limits: dict[str, object]) -> None:
    result = await run(scripting, "", limits=limits)
    assert (result["status"], result["error"]["code"]) == ("rejected", "invalid-arguments")


@pytest.mark.parametrize("source", ["print(", "\u0001\u0002", "not python at all", "import nothing_of_that_name"])
async def test_what_is_no_python_is_done_with_its_exit_code(scripting: Outsider, source: str) -> None:
    result = await run(scripting, source)
    assert (result["status"], result["value"]["exit_code"]) == ("done", 1)
    assert "Error" in result["value"]["stderr"]


async def test_output_that_no_result_holds_is_cut_with_a_notice(scripting: Outsider) -> None:
    source = "import sys\nfor _ in range(1000): sys.stdout.buffer.write(bytes(20_000))"
    id = await scripting.start("run_script", {"source": source, "limits": {"output": 10_000}})
    result = await scripting.result(id, timeout=PATIENCE)
    assert result["status"] == "done"
    assert result["value"]["stdout"].endswith(" of 20,000,000 bytes]\n")
    assert sent(scripting, id, "stdout").endswith("[output beyond 10,000 bytes is not sent]\n")
    assert len(sent(scripting, id, "stdout")) < 10_100


async def test_endless_output_costs_the_device_no_memory(begin: Begin) -> None:
    outsider = await begin("--script-no-packages")
    await run(outsider, "print('x' * 1_000_000)")  # what a first script needs
    before = memory(outsider, "VmRSS")
    source = "import sys\nfor _ in range(1000): sys.stdout.buffer.write(b'x' * 100_000)"
    id = await outsider.start("run_script", {"source": source})
    result = await outsider.result(id, timeout=PATIENCE)
    assert (result["status"], result["value"]["exit_code"]) == ("done", 0)
    assert result["value"]["stdout"].endswith(" of 100,000,000 bytes]\n")
    assert sent(outsider, id, "stdout").endswith(" bytes is not sent]\n")
    assert memory(outsider, "VmHWM") - before < 50_000_000


def memory(outsider: Outsider, what: str) -> int:
    """Bytes of the device's process."""
    status = Path(f"/proc/{outsider.device.process.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(what)).split()[1])


async def test_environment_of_the_device_stays_with_it(scripting: Outsider) -> None:
    result = await run(scripting, "import os; print(sorted(os.environ))")
    assert "OUTRIDER" not in result["value"]["stdout"]
    assert "XDG" not in result["value"]["stdout"]


async def test_many_scripts_at_once_are_run_and_one_more_is_busy(begin: Begin) -> None:
    outsider = await begin("--script-parallel", "10")
    source = "import time; time.sleep(1); print('done')"
    ids = [await outsider.start("run_script", {"source": source}) for _ in range(11)]
    results = [await outsider.result(id, timeout=PATIENCE) for id in ids]
    assert [result["status"] for result in results] == ["done"] * 10 + ["rejected"]
    assert results[-1]["error"]["code"] == "busy"


async def test_a_hundred_scripts_at_once_are_each_right(begin: Begin) -> None:
    outsider = await begin("--script-parallel", "100", "--script-no-packages")
    source = (
        "import sys\nnumber = int(sys.argv[1])\ntext = str(sum(each * number for each in range(1000)))\n"
        "open(f'{number}.txt', 'w').write(text)\nprint(number, text)"
    )
    ids = [await outsider.start("run_script", {"source": source, "args": [str(number)]}) for number in range(100)]
    for number, id in enumerate(ids):
        result = await outsider.result(id, timeout=60)
        assert (result["status"], result["value"]["stdout"]) == ("done", f"{number} {499_500 * number}\n")
    listed = {file["name"]: file["size"] for file in (await outsider.ask("list_files"))["value"]}
    assert listed.pop("script.py") == len(source)
    assert listed == {f"{number}.txt": len(str(499_500 * number)) for number in range(100)}


@pytest.mark.parametrize("journal", [(), ("--journal", "memory")])
async def test_device_that_is_started_twice_leaves_the_scripts_of_the_first_alone(
    begin: Begin, launch: Launch, journal: tuple[str, ...]
) -> None:
    outsider = await begin(*journal)
    files = {
        "main.py": "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.05)\n"
        "import late; print(late.X)",
        "late.py": "X = 'late'",
    }
    id = await outsider.start("run_script", {"files": files})
    async with asyncio.timeout(PATIENCE):
        while "begun" not in sent(outsider, id, "stdout"):
            await outsider.peer.round_trip()
    second = launch("--ready", *ALLOWED, *journal, id=outsider.device.id)
    assert await second.process.wait(timeout=PATIENCE) == 1
    assert "runs already" in second.process.errors
    await run(outsider, "open('go', 'w')")
    assert (await outsider.result(id, timeout=PATIENCE))["value"]["stdout"] == "begun\nlate\n"


async def test_purge_while_a_script_runs_says_so(begin: Begin) -> None:
    outsider = await begin()
    id = await outsider.start("run_script", {"source": "import time; time.sleep(60)"})
    await outsider.running(id)
    assert "still run" in (await outsider.ask("purge"))["error"]["message"]
    await outsider.ask("cancel", {"id": id})
    await outsider.result(id, timeout=PATIENCE)
    assert (await outsider.ask("purge"))["value"] == 1


async def test_packages_are_installed_as_the_script_says(begin: Begin, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "alpha")
    make_wheel(wheels, "beta", "2.0")
    outsider = await begin("--script-index", str(wheels))
    inline = '# /// script\n# dependencies = ["alpha"]\n# ///\nimport alpha, beta; print(alpha.VERSION, beta.VERSION)'
    id = await outsider.start("run_script", {"source": inline, "requirements": ["beta>=2"]})
    assert (await outsider.result(id, timeout=PATIENCE))["value"]["stdout"] == "1.0 2.0\n"
    assert [each["text"] for each in outsider.progress(id) if each.get("text")] == ["installing packages"]
    inferred = await run(outsider, "import alpha\nprint(alpha.VERSION)", infer_requirements=True)
    assert inferred["value"]["stdout"] == "1.0\n"
    written = await run(outsider, "import alpha; open(alpha.__file__, 'w')", requirements=["alpha"])
    assert written["value"]["exit_code"] == 1
    assert "OSError" in written["value"]["stderr"] or "PermissionError" in written["value"]["stderr"]


async def test_package_that_cannot_be_found_fails_with_its_name(begin: Begin, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "alpha")
    outsider = await begin("--script-index", str(wheels))
    for result in (
        await run(outsider, "", requirements=["no-such-package"]),
        await run(outsider, "import no_such_package", infer_requirements=True),
    ):
        assert (result["status"], result["error"]["code"]) == ("failed", "error")
        assert result["error"]["message"].startswith("PackagesUnavailable: no")
        assert "no-such-package" in result["error"]["message"]


async def test_harmless_script_with_a_package_it_did_not_declare_works(begin: Begin, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "alpha")
    outsider = await begin("--script-index", str(tmp_path / "wheels"))
    lines = [
        "import os",
        "import alpha",
        "print('one', alpha.VERSION)",
        "os.chdir('/')",
        "print(os.getcwd())",
        "print(3)",
    ]
    result = await run(outsider, "\n".join(lines), infer_requirements=True)
    assert (result["value"]["exit_code"], result["value"]["stdout"]) == (0, "one 1.0\n/\n3\n")


async def test_script_ends_with_a_device_that_is_killed(begin: Begin, unique: str) -> None:
    outsider = await begin()
    source = """
import os, time
if not os.fork():
    try: os.setsid()
    except OSError: pass  # not every sandbox lets it
time.sleep(60)
"""
    id = await outsider.start("run_script", {"source": source, "args": [unique]})
    await outsider.running(id)
    async with asyncio.timeout(PATIENCE):
        while len(with_argument(unique)) < 2:
            await outsider.peer.round_trip()
    outsider.device.process.kill()
    await until(lambda: not with_argument(unique), timeout=PATIENCE)


def with_argument(word: str) -> list[Path]:
    """The processes that have this among their arguments, apart from those that start them."""
    found: list[Path] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = path.read_bytes().split(b"\0")
            if word.encode() in arguments and b"python" in arguments[0]:
                found.append(path)
    return found


async def test_only_files_that_the_owner_allows_are_taken(begin: Begin) -> None:
    outsider = await begin("--script-files", "*.py", "--script-files", "*.csv")
    files = {"main.py": "print(open('data.csv').read())", "data.csv": "1,2"}
    assert (await run(outsider, files=files))["value"]["stdout"] == "1,2\n"


async def test_about_shows_the_commands_with_help(scripting: Outsider) -> None:
    about = (await scripting.ask("about"))["value"]
    for name in ("run_script", "fetch_file", "list_files", "purge"):
        assert about["commands"][name]["help"]
    assert about["commands"]["run_script"]["timeout"] == 300
    assert (await scripting.state("ready"))["pools"] == ["scripts"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--broker", "mqtt://broker.example"), "without TLS"),
        (("--broker", "mqtts://broker.example"), "without credentials"),
        (("--script-memory", "much"), "no size"),
        (("--script-memory", "1K"), "too little"),
        (("--script-timeout", "0"), "above 0"),
        (("--script-parallel", "0"), "1 or more"),
    ],
)
async def test_device_that_must_not_allow_scripts_does_not_start(
    spawn: Processes, arguments: tuple[str, ...], says: str
) -> None:
    process = spawn(script("outrider-device"), "run", "--id", "lamp", "--allow-scripts", *arguments, cwd=ROOT)
    assert await process.wait() == 2
    assert says in process.errors
    assert "Traceback" not in process.errors


async def test_options_without_allow_scripts_are_a_usage_error(spawn: Processes) -> None:
    process = spawn(script("outrider-device"), "run", "--id", "lamp", "--script-network", cwd=ROOT)
    assert await process.wait() == 2
    assert "--script-network without --allow-scripts" in process.errors


async def test_without_an_interpreter_the_device_does_not_start(spawn: Processes) -> None:
    arguments = ("--id", "lamp", "--allow-scripts", "--script-python", "/bin/false")
    process = spawn(script("outrider-device"), "run", *arguments, cwd=ROOT)
    assert await process.wait() == 1
    assert "/bin/false" in process.errors
    assert "Traceback" not in process.errors


@pytest.mark.parametrize(
    ("missing", "sandbox", "says"),
    [
        ("from outrider.device.scripts import bubblewrap; bubblewrap.PATH = '/nowhere'", "bubblewrap", "apt install"),
        ("sys.modules['landlock'] = None", "landlock", "pip install 'outrider-device[scripts]'"),
    ],
)
async def test_without_the_chosen_sandbox_the_device_does_not_start(
    spawn: Processes, missing: str, sandbox: str, says: str
) -> None:
    options = ["run", "--id", "lamp", "--allow-scripts", "--script-sandbox", sandbox]
    process = spawn.python("-c", f"import sys; {missing}; from outrider.device.main import main; main({options})")
    assert await process.wait() == 1
    assert f"scripts cannot be locked in on this machine. {sandbox}: " in process.errors
    assert says in process.errors
    assert "Traceback" not in process.errors


async def test_device_says_what_locks_scripts_in_and_where_they_are(launch: Launch) -> None:
    device = launch("--allow-scripts")
    said = (
        rf"INFO {device.id} runs scripts in (?:bubblewrap|landlock) with /\S+ and .* rights.*; their workspaces are in "
    )
    said += rf"(/\S+/workspaces/{device.id}\S+)"
    assert Path((await device.process.wait_for(said, errors=True))[1]).is_dir()


async def test_weaker_sandbox_is_a_warning_that_says_how_to_get_the_stronger(spawn: Processes) -> None:
    code = (
        "from outrider.device.scripts import bubblewrap; bubblewrap.PATH = '/nowhere'; "
        "from outrider.device.main import main; main(['run', '--id', 'lamp', '--allow-scripts'])"
    )
    process = spawn.python("-c", code, env={"OUTRIDER_BROKER": "unix:///nowhere/at/all"})
    said = "WARNING scripts get the weaker sandbox, landlock. bubblewrap: .*apt install bubblewrap"
    await process.wait_for(said, errors=True)


async def test_without_the_package_for_filters_no_sandbox_is_taken_for_one(spawn: Processes) -> None:
    code = (
        "import sys; sys.modules['pyseccomp'] = None; from outrider.device.main import main; "
        "main(['run', '--id', 'lamp', '--allow-scripts'])"
    )
    process = spawn.python("-c", code)
    assert await process.wait() == 1
    assert "pip install 'outrider-device[scripts]'" in process.errors
    assert "Traceback" not in process.errors


async def test_without_the_option_there_is_no_such_command(launch: Launch, meet: Meet) -> None:
    outsider = await at_ready(meet(launch("--ready")))
    assert (await run(outsider, "print(1)"))["error"]["code"] == "unknown-command"
    assert (await outsider.state("ready"))["pools"] == []


@pytest.mark.parametrize("granted", [False, True])
async def test_script_reaches_the_network_only_where_that_is_granted(begin: Begin, granted: bool) -> None:
    outsider = await begin(*(("--script-network",) if granted else ()))
    host, port = outsider.device.broker.host, outsider.device.broker.ports["5"]
    source = f"import socket; socket.create_connection(({host!r}, {port}), 5); print('through')"
    result = await run(outsider, source)
    assert result["value"]["stdout"] == ("through\n" if granted else "")
    assert (result["value"]["exit_code"] == 0) is granted


async def test_without_the_extra_it_says_what_to_install(spawn: Processes) -> None:
    code = (
        "import sys; sys.modules['packaging'] = None; from outrider.device.main import main; "
        "import outrider.device.scripts.contract; main(['run', '--id', 'lamp', '--allow-scripts'])"
    )
    process = spawn.python("-c", code)
    assert await process.wait() == 2
    assert "pip install 'outrider-device[scripts]'" in process.errors


@pytest_asyncio.fixture
async def scripting(begin: Begin) -> Outsider:
    """Somebody at a device that allows scripts."""
    return await begin("--script-no-packages")


async def test_runs_at_once_under_one_name_run_what_was_sent_with_each(begin: Begin) -> None:
    outsider = await begin()
    ids = [
        await outsider.start(
            "run_script", {"files": {"main.py": "import one; print(one.X)", "one.py": f"X = {number}"}}
        )
        for number in range(10)
    ]
    results = [await outsider.result(id, timeout=PATIENCE) for id in ids]
    assert [each["value"]["stdout"] for each in results] == [f"{number}\n" for number in range(10)]


async def test_script_looks_to_itself_as_if_it_was_run_from_its_workspace(begin: Begin) -> None:
    outsider = await begin()
    files = {
        "lib/main.py": "import sys, other, later\nprint(__name__, __file__, sys.argv, sorted(globals()))\nother.fail()",
        "lib/other.py": "def fail():\n    raise ValueError('so it is')",
    }
    assert (await run(outsider, "1", main="lib/later.py"))["value"]["exit_code"] == 0
    value = (await run(outsider, files=files, main="lib/main.py", args=["-c", "x"]))["value"]
    assert value["exit_code"] == 1
    assert value["stdout"].startswith("__main__ ")
    assert "lib/main.py', '-c', 'x']" in value["stdout"]
    assert "begin" not in value["stdout"]
    trace = value["stderr"].splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[1].endswith('lib/main.py", line 3, in <module>')
    assert trace[-1] == "ValueError: so it is"
    value = (await run(outsider, "this is no python"))["value"]
    assert value["stderr"].splitlines()[0].endswith('script.py", line 1')
    assert value["stderr"].splitlines()[-1].startswith("SyntaxError: ")
