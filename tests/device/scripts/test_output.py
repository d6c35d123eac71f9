"""What a script writes, on its way to who asked: streamed up to a limit, and cut so that a result holds it."""

import asyncio
import tracemalloc
from typing import Literal

import pytest
from msgspec import json, msgpack

from outrider.device.job import Job
from outrider.device.scripts.output import Output

Piece = tuple[Literal["stdout", "stderr"], str]


def output(limit: int = 1000, room: int = 10_000) -> tuple[Output, list[Piece]]:
    sent: list[Piece] = []
    job = Job("1", "run_script", "ann", "", lambda _, __: None, lambda stream, text: sent.append((stream, text)))
    return Output(job, limit=limit, room=room), sent


def joined(sent: list[Piece], stream: str = "stdout") -> str:
    return "".join(text for of, text in sent if of == stream)


async def test_output_is_sent_while_it_runs_in_order() -> None:
    taken, sent = output()
    taken.take("stdout", b"one\n")
    taken.take("stdout", b"two\n")
    taken.take("stderr", b"wrong\n")
    taken.take("stdout", b"three\n")
    assert sent == []
    await asyncio.sleep(0.1)
    assert sent == [("stdout", "one\ntwo\n"), ("stderr", "wrong\n"), ("stdout", "three\n")]
    assert taken.results() == ("one\ntwo\nthree\n", "wrong\n")


async def test_character_in_two_pieces_comes_whole() -> None:
    taken, sent = output()
    for byte in "größe €".encode():
        taken.take("stdout", bytes([byte]))
    taken.close()
    assert joined(sent) == taken.results()[0] == "größe €"


async def test_bytes_that_are_no_text_are_replaced() -> None:
    taken, sent = output()
    taken.take("stdout", b"a\xff\xfeb\xc3")
    taken.close()
    assert joined(sent) == taken.results()[0] == "a��b�"


@pytest.mark.parametrize("newline", [b"\n", b""])
async def test_beyond_the_limit_one_line_says_so(newline: bytes) -> None:
    taken, sent = output(limit=10)
    taken.take("stdout", b"123456789" + newline)
    for _ in range(100):
        taken.take("stdout", b"more\n")
    taken.take("stderr", b"other\n")
    taken.close()
    begun = "123456789\n" if newline else "123456789m\n"
    assert joined(sent) == f"{begun}[output beyond 10 bytes is not sent]\n"
    assert joined(sent, "stderr") == "other\n"


async def test_exactly_the_limit_is_sent_without_a_notice() -> None:
    taken, sent = output(limit=10)
    taken.take("stdout", b"1234567890")
    taken.close()
    assert joined(sent) == "1234567890"


async def test_many_small_pieces_are_few_messages() -> None:
    taken, sent = output(limit=1_000_000)
    for _ in range(5000):
        taken.take("stdout", b"o\n")
        taken.take("stderr", b"e\n")
    taken.close()
    assert len(sent) < 10
    assert joined(sent) == "o\n" * 5000
    assert joined(sent, "stderr") == "e\n" * 5000


@pytest.mark.parametrize(
    "piece", [b"x", b"\0", b"\x1b", b'"\\', "ü".encode(), "\U0001f680".encode(), b"\xff", b"\n", b"\xe2\x82"]
)
@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")])
async def test_result_fits_whatever_was_written(piece: bytes, streams: tuple[Literal["stdout", "stderr"], ...]) -> None:
    taken, _ = output(room=5000)
    for stream in streams:
        taken.take(stream, piece * 20_000)
    stdout, stderr = taken.results()
    assert len(json.encode((stdout, stderr))) <= 5000
    assert len(msgpack.encode((stdout, stderr))) <= 5000
    for stream, text in (("stdout", stdout), ("stderr", stderr)):
        if stream in streams:
            begun, _, notice = text.removesuffix("\n").rpartition("[")
            count = int(notice.removeprefix("truncated: the first ").partition(" of")[0].replace(",", ""))
            assert notice.endswith(f" of {20_000 * len(piece):,} bytes]")
            assert (piece * 20_000)[:count].decode(errors="replace").rstrip("\n") == begun.rstrip("\n")
        else:
            assert text == ""
    assert len(json.encode((stdout, stderr))) > 4500 // 2


async def test_short_stream_is_whole_beside_a_long_one() -> None:
    taken, _ = output(room=5000)
    taken.take("stdout", b"o" * 50_000)
    taken.take("stderr", b"e" * 1000)
    stdout, stderr = taken.results()
    assert stderr == "e" * 1000
    assert 3700 < len(stdout) < 4000
    assert "of 50,000 bytes]" in stdout


async def test_output_of_100_mb_grows_no_memory_and_keeps_the_notice() -> None:
    taken, sent = output(limit=1000, room=10_000)
    block = b"x" * 100_000
    tracemalloc.start()
    try:
        for _ in range(1000):
            taken.take("stdout", block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    taken.close()
    assert peak < 1_000_000
    assert taken.results()[0].endswith(" of 100,000,000 bytes]\n")
    assert len(joined(sent)) < 1100
