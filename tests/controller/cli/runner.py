"""A device that runs scripts with nothing around them: only for tests of who sends them."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from outrider.device import Device, Job
from outrider.device.scripts.contract import POOL, FileChunk, Limits, ScriptResult

NAME = os.environ["RUNNER"]
HERE = Path(os.environ["RUNNER_FOLDER"]) / NAME
runner = Device(NAME, groups=["kitchen"], pools=[POOL], initial="ready")


@runner.command(timeout=300, max_parallel=int(os.environ.get("RUNNER_PARALLEL", "4")))
async def run_script(
    job: Job,
    source: str | None = None,
    files: dict[str, str] | None = None,
    args: list[str] = [],  # noqa: B006  # the signature is the schema
    stdin: str = "",
    requirements: list[str] = [],  # noqa: B006
    infer_requirements: bool = False,
    main: str | None = None,
    limits: Limits = Limits(),  # noqa: B008
) -> ScriptResult:
    """Run a script."""
    if requirements or infer_requirements:
        job.print(f"requirements {requirements} {infer_requirements}")
    HERE.mkdir(parents=True, exist_ok=True)
    folder = HERE.parent / f"{job.id}-on-{NAME}"  # so that several at once do not take each other's script
    folder.mkdir()
    main = main or "script.py"
    for name, text in (files or {main: source or ""}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        folder / main,
        *args,
        cwd=HERE,
        env={"PATH": os.environ["PATH"], "DEVICE": NAME},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said = {"stdout": "", "stderr": ""}

    async def pump(stream: Literal["stdout", "stderr"], reader: asyncio.StreamReader) -> None:
        while data := await reader.read(32_768):
            text = data.decode(errors="replace")
            said[stream] += text
            job.print(text, end="", stream=stream)

    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(stdin.encode())
    process.stdin.close()
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await asyncio.gather(pump("stdout", process.stdout), pump("stderr", process.stderr), process.wait())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    killed_by = None
    code = process.returncode
    if code < 0:
        killed_by = "memory" if code == -signal.SIGUSR1 else signal.Signals(-code).name
        code = 128 - code
    for stream, text in said.items():
        if len(text) > 50_000:
            said[stream] = f"{text[:50_000]}\n[truncated: the first 50,000 of {len(text):,} bytes]\n"
    return ScriptResult(code, said["stdout"], said["stderr"], loop.time() - began, 0, killed_by)


@runner.command
def fetch_file(job: Job, name: str, offset: int = 0, length: int | None = None) -> FileChunk:
    """Give a part of a file."""
    data = (HERE / name).read_bytes()
    return FileChunk(name, len(data), offset, data[offset : offset + (length or 1000)])
