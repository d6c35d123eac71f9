"""Bytes to messages and back: the limits, and which encoding.

The first byte tells the encoding: `{` JSON (white space before it is fine), a map's header MessagePack, `e` a JWS
around either. Size and depth are bounded before anything is decoded: msgspec recurses per level and can end in a
segmentation fault on small stacks.
"""

import re
from enum import StrEnum
from typing import Final, Generic, TypeVar

import msgspec

from .errors import Code, InvalidMessage
from .messages import About, Command, Event, Progress, Result, State

MAX_SIZE: Final = 256 * 1024
"""Bytes a message may have, unless a device or requester sets its own limit."""

MAX_DEPTH: Final = 32
"""Levels that objects and arrays may be nested."""

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
_MSGPACK_CONTAINERS = frozenset((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
_NOT_CONTAINER = bytes(b for b in range(256) if b not in _MSGPACK_CONTAINERS)

_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
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
    # A cheap upper bound first, counted in C: bytes that could open a level. Only what exceeds it is looked at closely.
    if encoding is Encoding.JSON:
        deep = len(payload.translate(None, _NOT_OPENING)) > max_depth and _json_depth(payload) > max_depth
    else:
        deep = len(payload.translate(None, _NOT_CONTAINER)) > max_depth and _msgpack_too_deep(payload, max_depth)
    if deep:
        raise InvalidMessage(f"the message is nested more than {max_depth} levels deep")
    return encoding


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


def _json_depth(payload: bytes) -> int:
    depth = deepest = 0
    for byte in _JSON_STRING.sub(b"", payload):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _msgpack_too_deep(payload: bytes, max_depth: int) -> bool:
    """Walk the headers of a MessagePack value with an explicit stack; what is cut short is left to the decoder."""
    remaining = [1]  # values still to come at each open level
    at, end = 0, len(payload)
    while remaining and at < end:
        if remaining[-1] == 0:
            remaining.pop()
            continue
        remaining[-1] -= 1
        header = payload[at]
        at += 1
        if header in _MSGPACK_CONTAINERS and len(remaining) > max_depth:
            return True
        inside = 0
        if 0x80 <= header <= 0x8F:
            inside = 2 * (header & 0x0F)
        elif 0x90 <= header <= 0x9F:
            inside = header & 0x0F
        elif 0xDC <= header <= 0xDF:
            width = 2 if header in (0xDC, 0xDE) else 4
            inside = int.from_bytes(payload[at : at + width]) * (2 if header >= 0xDE else 1)
            at += width
        elif 0xA0 <= header <= 0xBF:
            at += header & 0x1F
        elif header in _MSGPACK_SIZED:
            width, extra = _MSGPACK_SIZED[header]
            at += width + int.from_bytes(payload[at : at + width]) + extra
        else:
            at += _MSGPACK_FIXED.get(header, 0)
        if inside:
            remaining.append(inside)
    return False


# MessagePack headers: those followed by a length (its width, and what an extension's type byte adds) …
_MSGPACK_SIZED = {
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
# … and those followed by a fixed number of bytes.
_MSGPACK_FIXED = {
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

COMMAND: Final = Decoder(Command)
PROGRESS: Final = Decoder(Progress)
RESULT: Final = Decoder(Result)
STATE: Final = Decoder(State)
ABOUT: Final = Decoder(About, max_size=4 * MAX_SIZE)
EVENT: Final = Decoder(Event)
