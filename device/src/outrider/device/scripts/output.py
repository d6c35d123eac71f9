"""What a script writes: sent while it runs, up to a limit, and its beginning kept for the result."""

import asyncio
import codecs
from typing import Final

from msgspec import json

from outrider.device.execution import CHUNK
from outrider.device.job import Job

from .contract import STREAMS, Stream, truncated

INTERVAL: Final = 0.05
"""Seconds that output waits for more, so that a script that writes in small pieces does not flood the broker."""

MOST_PIECES: Final = 20
"""How often the stream changes in what is sent at once; where it would more often, each stream goes in one piece."""

NOTICE: Final = 100
"""Bytes kept free for the words that a stream was cut."""


class Output:
    """Takes the output of one script.

    :param limit: bytes of each stream that are sent.
    :param room: bytes that both streams together may have in a result, as they are encoded.
    """

    def __init__(self, job: Job, *, limit: int, room: int) -> None:
        self._job = job
        self._room = max(room - 2 * NOTICE, 0)
        self._sent = {stream: _Sent(limit) for stream in STREAMS}
        self._heads = {stream: bytearray() for stream in STREAMS}
        self._totals = dict.fromkeys(STREAMS, 0)
        self._waiting: list[tuple[Stream, str]] = []
        self._size = 0
        self._sending: asyncio.TimerHandle | None = None

    def take(self, stream: Stream, data: bytes) -> None:
        """Take what was written just now; called in the event loop."""
        self._totals[stream] += len(data)
        head = self._heads[stream]
        head += data[: max(self._room - len(head), 0)]  # encoded it has as many bytes, or more
        self._wait(stream, self._sent[stream].take(data))

    def close(self) -> None:
        """Send what waits."""
        for stream in STREAMS:
            self._wait(stream, self._sent[stream].end())
        self._send()

    def results(self) -> tuple[str, str]:
        """Both streams for the result: all of them, or their beginnings with a notice where they were cut.

        The shorter one has what it needs, as long as that is no more than half of the room.
        """
        sizes = {stream: _encoded(_decoded(bytes(head))) for stream, head in self._heads.items()}
        half = self._room // 2
        out = min(sizes["stdout"], max(half, self._room - sizes["stderr"]))
        rooms = {"stdout": out, "stderr": self._room - out}
        return self._result("stdout", rooms["stdout"]), self._result("stderr", rooms["stderr"])

    def _result(self, stream: Stream, room: int) -> str:
        head, total = bytes(self._heads[stream]), self._totals[stream]
        if len(head) == total and _encoded(text := _decoded(head)) <= room:
            return text
        fits, over = 0, len(head) + 1
        while over - fits > 1:  # the largest beginning that has room; more bytes are never fewer encoded
            middle = (fits + over) // 2
            if _encoded(_begun(head[:middle])[0]) <= room:
                fits = middle
            else:
                over = middle
        text, count = _begun(head[:fits])
        newline = "" if text.endswith("\n") or not text else "\n"
        return f"{text}{newline}{truncated(count, total)}"

    def _wait(self, stream: Stream, text: str) -> None:
        if not text:
            return
        if self._waiting and self._waiting[-1][0] == stream:
            self._waiting[-1] = (stream, self._waiting[-1][1] + text)
        else:
            self._waiting.append((stream, text))
        self._size += len(text)
        if self._size >= CHUNK:
            self._send()
        elif self._sending is None:
            self._sending = asyncio.get_running_loop().call_later(INTERVAL, self._send)

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        pieces, self._waiting, self._size = self._waiting, [], 0
        if len(pieces) > MOST_PIECES:
            pieces = [_merged(pieces, stream) for stream in STREAMS]
        for stream, text in pieces:
            if text:
                self._job.print(text, end="", stream=stream)


def _merged(pieces: list[tuple[Stream, str]], stream: Stream) -> tuple[Stream, str]:
    return stream, "".join(text for of, text in pieces if of == stream)


class _Sent:
    """One stream as it is sent: as text, and no more than the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._newline = True
        self._cut = False

    def take(self, data: bytes) -> str:
        if self._cut:
            return ""
        text = self._decoder.decode(data[: self._left])
        self._left -= len(data)
        if text:
            self._newline = text.endswith("\n")
        if self._left >= 0:
            return text
        self._cut = True
        return f"{text}{'' if self._newline else chr(10)}[output beyond {self._limit:,} bytes is not sent]\n"

    def end(self) -> str:
        return "" if self._cut else self._decoder.decode(b"", final=True)


def _decoded(data: bytes) -> str:
    return data.decode(errors="replace")


def _begun(data: bytes) -> tuple[str, int]:
    """A beginning as text, without a character whose end is missing; and how many bytes it is."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, len(data) - len(decoder.getstate()[0])


def _encoded(text: str) -> int:
    """Bytes of a text in a message; in MessagePack it has no more than in JSON."""
    return len(json.encode(text)) - 2
