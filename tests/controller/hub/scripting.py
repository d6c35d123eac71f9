"""Devices that run scripts, one without locking them in, and clients that send some."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tests.controller.hub.running import LIMIT, RunningHub
from tests.processes import Spawned, script
from tests.scripting import ALLOWED

RUNNER = '''
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from outrider.device import Device, Job
from outrider.device.scripts.contract import Limits, ScriptResult

runner = Device("{id}", pools=["scripts"], initial="ready")
home = Path(tempfile.mkdtemp())


@runner.command(timeout=300, max_parallel={parallel})
async def run_script(
    job: Job,
    source: str | None = None,
    files: dict[str, str] | None = None,
    args: list[str] = [],
    stdin: str = "",
    requirements: list[str] = [],
    infer_requirements: bool = False,
    main: str | None = None,
    limits: Limits = Limits(),
) -> ScriptResult:
    """Run a script in a folder of its owner's."""
    folder = home / (job.requester + " " + job.behalf)
    folder.mkdir(exist_ok=True)
    with (home / "runs").open("a") as runs:
        runs.write(job.id + "\\n")
    main = main or "script.py"
    for name, text in (files or {{main: source}}).items():
        (folder / name).write_text(text)
    if "no-such-package" in requirements:
        raise RuntimeError("there is no package no-such-package")
    began = time.monotonic()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", main, *args, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe
    )
    written = {{"stdout": "", "stderr": ""}}

    async def read(stream, name):
        while chunk := await stream.read(4096):
            text = chunk.decode(errors="replace")
            written[name] += text
            job.print(text, end="", stream=name)

    try:
        process.stdin.write(stdin.encode())
        process.stdin.close()
        await asyncio.gather(read(process.stdout, "stdout"), read(process.stderr, "stderr"))
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    killed = "memory" if "MemoryError" in written["stderr"] else None
    written = {{name: text[:100_000] for name, text in written.items()}}
    return ScriptResult(code, **written, duration=time.monotonic() - began, peak_memory=1, killed_by=killed)
'''


async def start_runner(hub: RunningHub, id: str = "runner-1", token: str | None = None, parallel: int = 100) -> Spawned:
    """A device in the pool `scripts`, in a process of its own."""
    module = id.replace("-", "_")
    (hub.folder / f"{module}.py").write_text(RUNNER.format(id=id, parallel=parallel))
    command = (script("outrider-device"), "run", f"{module}:runner")
    device = hub.processes(*command, env=hub.environment, cwd=hub.folder)
    await hub.until_status(id, "ready", token=token)
    return device


async def start_locked(hub: RunningHub, *options: str) -> Spawned:
    """A device that locks scripts in, started as people start one."""
    words = ("run", "--id", "runner-1", "--ready", *ALLOWED, *options)
    device = hub.processes(script("outrider-device"), *words, env=hub.environment, cwd=hub.folder)
    await hub.until_status("runner-1", "ready")
    return device


async def run(client: httpx.AsyncClient, code: str | list[str], name: str | None = "ada", **more: object) -> str:
    """Send a script, and return its id."""
    body: dict[str, object] = {"code": code, **({} if name is None else {"client": name}), **more}
    answer = await client.post("/run-json", json=body)
    assert answer.status_code == 202, answer.text
    id = str(answer.json()["id"])
    assert answer.headers["location"] == f"/status/{id}"
    return id


async def status(client: httpx.AsyncClient, id: str, name: str | None = "ada", wait: float = LIMIT) -> dict[str, Any]:
    """What became of it, once it has ended."""
    answer = await client.get(f"/status/{id}", params=asking(name, wait=wait))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def until(
    client: httpx.AsyncClient, id: str, holds: Callable[[dict[str, Any]], object], name: str | None = "ada"
) -> dict[str, Any]:
    """The first status of which it holds."""
    deadline = time.monotonic() + LIMIT
    while not holds(said := await status(client, id, name, wait=0)):
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.03)
    return said


async def outcome(client: httpx.AsyncClient, code: str | list[str], **more: object) -> dict[str, Any]:
    """Send a script, and return what became of it."""
    return await status(client, await run(client, code, "ada", **more))


def asking(name: str | None, **more: object) -> Mapping[str, Any]:
    """What is asked with in the name of a client."""
    return {**({} if name is None else {"client": name}), **more}
