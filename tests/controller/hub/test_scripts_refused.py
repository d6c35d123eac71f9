"""Scripts that cannot be: each is refused with a problem that names what is wrong, and nothing is sent."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub
from tests.processes import Processes

pytestmark = [
    pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session"),
    pytest.mark.asyncio(loop_scope="module"),
]

Parts = list[tuple[str, tuple[str | None, bytes | str]]]

MANY = 50_000_000
LONG = "x" * 297 + ".py"

GOOD: Parts = [("file", ("a.py", b"1"))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """A hub whose pool is empty: what it would send to a device ends in 503."""
    folder: Path = tmp_path_factory.mktemp("refused")
    processes = Processes(folder)
    try:
        hub = RunningHub(broker, "refused", folder, processes)
        await hub.start()
        yield hub
    finally:
        processes.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(hub: RunningHub) -> AsyncIterator[httpx.AsyncClient]:
    async with hub.client() as client:
        yield client


def most_memory(hub: RunningHub) -> int:
    """Bytes that its process has had at most."""
    assert hub.process is not None
    said = Path(f"/proc/{hub.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in said.splitlines() if line.startswith("VmHWM")))


def problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert (said["code"], said.get("field")) == (code, field), said
    return str(said["detail"])


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"script_name": "../a.py"}, "script_name", "without folders"),
        ({"script_name": "..py"}, "script_name", "begin with a dot"),
        ({"script_name": "..\\a.py"}, "script_name", "without folders"),
        ({"script_name": "/etc/a.py"}, "script_name", "without folders"),
        ({"script_name": "a/b.py"}, "script_name", "without folders"),
        ({"script_name": "a\0.py"}, "script_name", "cannot be printed"),
        ({"script_name": "a\n.py"}, "script_name", "cannot be printed"),
        ({"script_name": "a\u202e.py"}, "script_name", "cannot be printed"),
        ({"script_name": LONG}, "script_name", "at most 100 characters"),
        ({"script_name": "a.sh"}, "script_name", "must end in .py"),
        ({"script_name": ".py"}, "script_name", "must end in .py"),
        ({"script_name": ""}, "script_name", "must end in .py"),
        ({"script_name": 3}, "script_name", "str"),
        ({"client": ""}, "client", ">= 1"),
        ({"client": None}, "client", "client is missing"),
        ({"client": "x" * 1001}, "client", "<= 1000"),
        ({"client": 7}, "client", "str"),
        ({"code": 7}, "code", "Expected"),
        ({"code": {"a": "b"}}, "code", "Expected"),
        ({"code": ["print(1)", 2]}, "code[1]", "Expected"),
        ({"code": None}, "code", "Expected"),
        ({"args": "a b"}, "args", "array"),
        ({"args": [1]}, "args[0]", "str"),
        ({"requirements": [None]}, "requirements[0]", "str"),
        ({"limits": {"memory": "256M"}}, "limits.memory", "int"),
        ({"limits": {"memory": 1}}, "limits.memory", ">="),
        ({"limits": {"speed": 1}}, "limits", "unknown field `speed`"),
        ({"timeout": 0}, "timeout", ">="),
        ({"timeout": "30"}, "timeout", "float"),
        ({"infer_requirements": "no"}, "infer_requirements", "bool"),
        ({"target": ""}, "target", ">= 1"),
        ({"colour": "red"}, "colour", "unknown field"),
    ],
)
async def test_field_that_cannot_be_is_named(
    client: httpx.AsyncClient, change: dict[str, Any], field: str, words: str
) -> None:
    body = {"client": "ada", "script_name": "a.py", "code": "1", **change}
    assert words in problem(await client.post("/run-json", json=body), 400, "invalid-request", field)


@pytest.mark.parametrize("missing", ["code", "client"])
async def test_missing_field_is_named(client: httpx.AsyncClient, missing: str) -> None:
    body = {"client": "ada", "code": "1"}
    del body[missing]
    problem(await client.post("/run-json", json=body), 400, "invalid-request", missing)


@pytest.mark.parametrize(
    ("parts", "fields", "field", "words"),
    [
        ([], {"client": "ada"}, "file", "no file"),
        ([], {}, "file", "no file"),
        (GOOD, {}, "client", "client is missing"),
        (GOOD, {"client": ""}, "client", ">= 1"),
        (GOOD, {"client": "ada", "colour": "red"}, "colour", "no field is called 'colour'"),
        (GOOD, {"client": ["ada", "bob"]}, "client", "twice"),
        (GOOD, {"client": "ada", "timeout": "soon"}, "timeout", "JSON"),
        (GOOD, {"client": "ada", "timeout": "-1"}, "timeout", ">="),
        (GOOD, {"client": "ada", "limits": "{"}, "limits", "JSON"),
        (GOOD, {"client": "ada", "limits": '{"cpu": -1}'}, "limits.cpu", ">"),
        (GOOD, {"client": "ada", "infer_requirements": "perhaps"}, "infer_requirements", "JSON"),
        (GOOD, {"client": "ada", "script_name": "../b.py"}, "script_name", "without folders"),
        ([("file", ("../a.py", b"1"))], {"client": "ada"}, "file", "without folders"),
        ([("file", ("a.txt", b"1"))], {"client": "ada"}, "file", "must end in .py"),
        ([("file", (LONG, b"1"))], {"client": "ada"}, "file", "at most 100 characters"),
        ([("file", ("a.py", b"\xff\xfe"))], {"client": "ada"}, "file", "not UTF-8: byte 0xff at 0"),
        ([("file", (None, b"print(1)"))], {"client": "ada"}, "file", "is no file"),
        ([*GOOD, *GOOD], {"client": "ada"}, "file", "two files called a.py"),
        ([("script", ("a.py", b"1"))], {"client": "ada"}, "script", "no field is called 'script'"),
        ([("args", ("a.py", b"1"))], {"client": "ada"}, "args", "and no file"),
        (
            [("files[]", ("a.py", b"1")), ("files[]", ("b.py", b"1"))],
            {"client": "ada"},
            "script_name",
            "none of a.py, b.py is called main.py",
        ),
        (
            [("files[]", ("a.py", b"1")), ("files[]", ("b.py", b"1"))],
            {"client": "ada", "script_name": "c.py"},
            "script_name",
            "none of a.py, b.py is called c.py",
        ),
        (
            [("files[]", ("a.py", b"1")), ("files[]", ("../b.csv", b"1"))],
            {"client": "ada", "script_name": "a.py"},
            "files[]",
            "without folders",
        ),
        (
            [("files[]", ("a.py", b"1")), ("files[]", ("b.csv", b"1"))],
            {"client": "ada", "script_name": "b.csv"},
            "script_name",
            "must end in .py",
        ),
    ],
)
async def test_form_that_cannot_be_is_refused(
    client: httpx.AsyncClient, parts: Parts, fields: dict[str, Any], field: str, words: str
) -> None:
    files: Any = parts or [("nothing", (None, b""))]
    if not parts:
        files = None
        body = "".join(f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items())
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = await client.post("/run-file", content=f"{body}--x--\r\n", headers=kind)
    else:
        answer = await client.post("/run-file", data=fields, files=files)
    assert words in problem(answer, 400, "invalid-request", field)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"--x",
        b"--x\r\n",
        b"no form at all",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.py"\r\n\r\nprint(1)',
        b'--x\r\nContent-Disposition: form-data; name="client"\r\n\r\n\xff\r\n--x--\r\n',
        b'--x\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: text/plain; charset=x-no\r\n\r\na\r\n--x--',
        b"--x\r\nContent-Type: text/plain\r\n\r\nprint(1)\r\n--x--\r\n",
        b"--x\r\n\r\nprint(1)\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\0.py"\r\n\r\nprint(1)\r\n--x--\r\n',
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 2000 + b"--x--\r\n",
    ],
)
async def test_broken_form_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post(
        "/run-file", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "invalid-request"


async def test_form_without_a_boundary_is_refused(client: httpx.AsyncClient) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=ü"):
        headers = {"Content-Type": kind.encode()}
        answer = await client.post("/run-file", content=b"--x--", headers=headers)  # type: ignore[arg-type]  # bytes do
        problem(answer, 400, "invalid-request")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/run-json", None),
        ("/run-json", "text/plain"),
        ("/run-json/", "text/plain"),
        ("/run-json", "multipart/form-data; boundary=x"),
        ("/run-file", None),
        ("/run-file", "application/json"),
        ("/run-file/", "application/json"),
        ("/run-file", "application/x-www-form-urlencoded"),
    ],
)
async def test_body_of_another_kind_is_refused(client: httpx.AsyncClient, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = await client.post(path, content=b'{"client": "ada", "code": "1"}', headers=headers)
    needed = "application/json" if path.startswith("/run-json") else "multipart/form-data"
    assert needed in problem(answer, 415, "unsupported")


async def test_broken_json_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (b"", b"{", b"[]", b'{"client": "\xff"}', b"[" * 100_000, b'{"client": "\\ud800", "code": "1"}'):
        answer = await client.post("/run-json", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request"), answer.text


async def test_query_that_is_not_known_is_refused(client: httpx.AsyncClient) -> None:
    problem(await client.post("/run-json?now=1", json={"client": "ada", "code": "1"}), 400, "invalid-request", "now")
    problem(await client.get("/status/run-1", params={"clients": "ada"}), 400, "invalid-request", "clients")
    problem(await client.get("/status/run-1", params={"wait": 61}), 400, "invalid-request", "wait")


async def test_large_upload_is_refused_before_it_has_come(hub: RunningHub, client: httpx.AsyncClient) -> None:
    began, memory = time.monotonic(), most_memory(hub)
    answer = await client.post("/run-file", data={"client": "ada"}, files={"file": ("a.py", b"#" * MANY)})
    assert "262,144 bytes" in problem(answer, 413, "too-large")
    assert time.monotonic() - began < 5
    assert most_memory(hub) - memory < MANY // 5


async def test_large_upload_without_a_length_is_bounded(hub: RunningHub, client: httpx.AsyncClient) -> None:
    sent, memory = 0, most_memory(hub)

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.py"\r\n\r\n'
        while sent < MANY:
            sent += 65_536
            yield b"#" * 65_536
            await asyncio.sleep(0)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(await client.post("/run-file", content=parts(), headers=headers), 413, "too-large")
    assert most_memory(hub) - memory < MANY // 5


@pytest.mark.parametrize("path", ["/run-json", "/run-file"])
async def test_script_too_large_for_a_command_is_refused_with_the_limit(client: httpx.AsyncClient, path: str) -> None:
    code = '"\n' * 80_000  # each character has two bytes in JSON
    if path == "/run-file":
        answer = await client.post(path, data={"client": "ada"}, files={"file": ("a.py", code.encode())})
    else:
        answer = await client.post(path, json={"client": "ada", "code": "é" * 131_000})
    assert "at most 258,048 bytes" in problem(answer, 413, "too-large")


async def test_good_script_would_have_been_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post("/run-file", data={"client": "ada"}, files={"file": ("a.py", b"\x00 no python")})
    problem(answer, 503, "no-member")
