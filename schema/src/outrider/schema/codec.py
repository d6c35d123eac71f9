"""Bytes to messages and back: the limits, and which encoding.

The first byte tells the encoding: `{` JSON (white space before it is fine), a map's header MessagePack, `e` a JWS
around either. Size and depth are bounded before anything is decoded: msgspec recurses per level and can end in a
segmentation fault on small stacks.
"""

import re
from enum import StrEnum
from itertools import accumulate
from typing import Final, Generic, TypeVar

import msgspec

from .errors import Code, InvalidMessage
from .messages import About, Command, Event, Progress, Result, State

MAX_SIZE: Final = 256 * 1024
"""Bytes a message may have, unless a device or requester sets its own limit."""

MAX_RESULT: Final = 1_048_576
"""Bytes of a result that a requester takes: a device may send more than the default, up to what brokers pass on."""

MAX_DEPTH: Final = 32
"""Levels that objects and arrays may be nested."""

MAX_SIZED: Final = 10_000
"""Arrays, maps, binaries, extensions of any length and strings over 31 bytes that a MessagePack message may have."""

T = TypeVar("T")


class Encoding(StrEnum):
    """How a payload is written. A device answers in the encoding it was asked in."""

    JSON = "json"
    MSGPACK = "msgpack"


_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()
_ENCODERS = {Encoding.JSON: _json.encode, Encoding.MSGPACK: _msgpack.encode}

_JSON_START = frozenset(b"{ \t\r\n")
_MSGPACK_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_JWS_START = ord("e")

_NOT_OPENING = bytes(b for b in range(256) if b not in b"[{")
_NOT_BRACKET = bytes(b for b in range(256) if b not in b"[{]}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # up and down, as signed bytes
_JSON_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')
_MSGPACK_ID = re.compile(rb"(?:[\x80-\x8f]|\xde..|\xdf....)\xa2id(?:([\xa1-\xbf])|\xd9(.))", re.DOTALL)
_ID_WITHIN = 1024


def encode(message: object, encoding: Encoding) -> bytes:
    """Write a message, or a value that goes into one.

    :raises TypeError: for a value that the encoding has no form for.
    """
    return _ENCODERS[encoding](message)


def encoding_of(payload: bytes) -> Encoding:
    """Which encoding a payload is in, by its first byte.

    :raises InvalidMessage: for a JWS (code `unsupported`: whoever holds keys opens it first) and for anything else.
    """
    first = payload[0] if payload else None
    if first in _JSON_START:
        return Encoding.JSON
    if first in _MSGPACK_MAPS:
        return Encoding.MSGPACK
    if first == _JWS_START:
        raise InvalidMessage("the message is signed (JWS), and nothing here checks signatures", code=Code.UNSUPPORTED)
    raise InvalidMessage("the message is neither a JSON object nor a MessagePack map")


class Decoder(Generic[T]):
    """Reads one type of message from either encoding, within limits. Build once, use often."""

    def __init__(self, message_type: type[T], *, max_size: int = MAX_SIZE, max_depth: int = MAX_DEPTH) -> None:
        self._json = msgspec.json.Decoder(message_type)
        self._msgpack = msgspec.msgpack.Decoder(message_type)
        self.max_size = max_size
        self.max_depth = max_depth

    def decode(self, payload: bytes) -> tuple[T, Encoding]:
        """The message and the encoding it came in.

        :raises InvalidMessage: with the code `too-large`, `unsupported` or `invalid-message`, and with the id where
            one could still be read.
        """
        try:
            encoding = check_limits(payload, max_size=self.max_size, max_depth=self.max_depth)
            decoder = self._json if encoding is Encoding.JSON else self._msgpack
            return decoder.decode(payload), encoding
        except InvalidMessage as error:
            raise InvalidMessage(str(error), code=error.code, id=find_id(payload)) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidMessage(f"the message cannot be read: {error}", id=find_id(payload)) from error


def check_limits(payload: bytes, *, max_size: int = MAX_SIZE, max_depth: int = MAX_DEPTH) -> Encoding:
    """The encoding of a payload that is within the limits, without decoding it.

    :raises InvalidMessage: `too-large` over `max_size` bytes, `invalid-message` when nested over `max_depth`.
    """
    if len(payload) > max_size:
        raise InvalidMessage(
            f"the message has {len(payload):,} bytes; the limit is {max_size:,}: send less at once",
            code=Code.TOO_LARGE,
        )
    encoding = encoding_of(payload)
    check_nesting(payload, encoding, max_depth=max_depth)
    return encoding


def check_nesting(text: bytes, encoding: Encoding, *, max_depth: int = MAX_DEPTH) -> None:
    """Check what `encode` has written, or anybody else, against `max_depth` and, in MessagePack, `MAX_SIZED`.

    :raises InvalidMessage: it is over one of them.
    """
    # A cheap upper bound first: bytes that could open a level. Only what exceeds it is looked at closely, and that in C
    # as far as can be, for the event loop waits meanwhile.
    if encoding is Encoding.JSON:
        if len(text.translate(None, _NOT_OPENING)) > max_depth and _json_depth(text) > max_depth:
            raise _too_deep(max_depth)
    elif len(text.translate(None, _NOT_SIZED)) > max_depth:
        _check_msgpack(text, max_depth)


def find_id(payload: bytes) -> str | None:
    """The command's id from bytes that may be broken, too deep or too large: so that a refusal can name it.

    Looks at the outermost level only, near the beginning, where requesters put it.
    """
    head = payload[:_ID_WITHIN].lstrip()
    if head[:1] == b"{":
        found = _JSON_ID.search(re.split(rb"[\[{]", head[1:], maxsplit=1)[0])
        return found[1].decode() if found else None
    packed = _MSGPACK_ID.match(head)
    if packed is None:
        return None
    length = packed[1][0] - 0xA0 if packed[1] else packed[2][0]
    text = head[packed.end() : packed.end() + length]
    return text.decode() if re.fullmatch(rb"[A-Za-z0-9_-]{1,64}", text) else None


def _too_deep(max_depth: int) -> InvalidMessage:
    return InvalidMessage(f"the message is nested more than {max_depth} levels deep")


def _json_depth(text: bytes) -> int:
    """The deepest level, exact up to the first fault, where the decoder stops too."""
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")  # then each quotation mark begins or ends a string
    outside = b"".join(text.split(b'"')[::2])
    steps = memoryview(outside.translate(_STEPS, _NOT_BRACKET)).cast("b")
    return max(accumulate(steps), default=0)


# MessagePack headers: those followed by a fixed number of bytes …
_MSGPACK_FIXED = {
    **{0xA0 + length: length for length in range(1, 32)},
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
    0xD4: 2,
    0xD5: 3,
    0xD6: 5,
    0xD7: 9,
    0xD8: 17,
}
# … those followed by a length (its width, and what an extension's type byte adds) …
_MSGPACK_LENGTHS = {
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
}
# … and those of arrays and maps (how many values, or how wide the number is, and values for each of them).
_MSGPACK_CONTAINERS = {
    **{0x80 + length: (0, 2 * length) for length in range(16)},
    **{0x90 + length: (0, length) for length in range(16)},
    0xDC: (2, 1),
    0xDD: (4, 1),
    0xDE: (2, 2),
    0xDF: (4, 2),
}
_NOT_SIZED = bytes(b for b in range(256) if b not in _MSGPACK_LENGTHS and b not in _MSGPACK_CONTAINERS)


def _plain_values() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """A run of values of fixed widths, and one that is wider than a byte: quick to match, and quick to search."""
    headers: dict[int, bytes] = {}
    for header, width in _MSGPACK_FIXED.items():
        headers[width] = headers.get(width, b"") + rb"\x%02x" % header
    wide = b"|".join(b"[%b].{%d}" % (some, width) for width, some in headers.items())
    after = b"|".join(b"(?<=[%b]).{%d}" % (some, width) for width, some in headers.items())
    return (
        re.compile(rb"(?:[\x00-\x7f\xa0\xc0-\xc3\xe0-\xff]|%b)*+" % wide, re.DOTALL),
        re.compile(b"[%b](?:%b)" % (b"".join(headers.values()), after), re.DOTALL),
    )


_MSGPACK_PLAIN, _MSGPACK_WIDE = _plain_values()


def _check_msgpack(text: bytes, max_depth: int) -> None:
    """Walk the headers with an explicit stack, over runs of plain values at once; the decoder judges what is broken."""
    remaining = [1]  # values still to come at each open level
    at = sized = values = 0
    while True:
        begin, at = at, _MSGPACK_PLAIN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if at > begin:
            # Without the wide ones a byte is a value: a search that begins at a header goes on from header to header.
            single, wide = _MSGPACK_WIDE.subn(b"", text[begin:at])
            values = len(single) + wide
        while values >= remaining[-1]:
            values -= remaining.pop()
            if not remaining:
                return
        remaining[-1] -= values + 1
        values = 0
        header = text[at] if at < len(text) else None
        at += 1
        if header in _MSGPACK_CONTAINERS:
            if len(remaining) > max_depth:
                raise _too_deep(max_depth)
            width, inside = _MSGPACK_CONTAINERS[header]
            if width:
                inside *= int.from_bytes(text[at : at + width])
                at += width
            remaining.append(inside)
        elif header in _MSGPACK_LENGTHS:
            width, extra = _MSGPACK_LENGTHS[header]
            at += width + int.from_bytes(text[at : at + width]) + extra
        else:  # cut short
            return
        sized += 1
        if sized > MAX_SIZED:
            raise InvalidMessage(
                f"the message has more than {MAX_SIZED:,} arrays, maps, binaries and long strings: send less at once"
            )


COMMAND: Final = Decoder(Command)
PROGRESS: Final = Decoder(Progress)
RESULT: Final = Decoder(Result)
STATE: Final = Decoder(State)
ABOUT: Final = Decoder(About, max_size=4 * MAX_SIZE)
EVENT: Final = Decoder(Event)
