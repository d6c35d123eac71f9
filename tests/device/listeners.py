"""A Mosquitto that listens in every way that a URL can name, and a bound on waiting for it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trustme

from tests.device.mosquitto import free_port, mosquitto


@contextlib.asynccontextmanager
async def within(seconds: float, failure: str) -> AsyncGenerator[None]:
    """Fail with these words when it takes longer: a broker that answers nobody is not to hang the tests."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise AssertionError(f"{failure} within {seconds:g} s") from None


@contextlib.asynccontextmanager
async def listeners(folder: Path, *settings: str) -> AsyncGenerator[dict[str, str]]:
    """A Mosquitto that listens in every way; the URL of each by its scheme."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    ca, cert, key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    server.cert_chain_pems[0].write_to_path(str(cert))
    server.private_key_pem.write_to_path(str(key))
    plain, secure, path = free_port(), free_port(), folder / "m.sock"
    more = [
        *(f"listener {plain} 127.0.0.1", "protocol websockets"),
        *(f"listener {secure} 127.0.0.1", "protocol websockets", f"certfile {cert}", f"keyfile {key}"),
        *(f"listener 0 {path}",),
    ]
    async with contextlib.AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(mosquitto(folder, *settings, *more))
        except AssertionError as error:
            if "ebsockets support not available" in str(error):
                pytest.skip("this mosquitto was built without WebSocket: use the one of the distribution")
            raise
        async with within(20, "not every listener was there"):
            while not await listens(path):  # noqa: ASYNC110  # the last one, and no event tells of it
                await asyncio.sleep(0.01)
        yield {
            "mqtt": f"mqtt://127.0.0.1:{port}",
            "ws": f"ws://127.0.0.1:{plain}",
            "wss": f"wss://localhost:{secure}/mqtt?ca={ca}",
            "unix": f"unix://{path}",
        }


async def listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True
