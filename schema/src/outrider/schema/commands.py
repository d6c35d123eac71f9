"""A typed function's signature becomes a command: its arguments' Struct, JSON Schemas and help.

Arguments arrive as an object (named) or a list (positional) in either encoding, and are checked against the
annotations (`typing.Annotated[..., msgspec.Meta(...)]` for ranges, lengths and patterns) before the function is called.
"""

import copy
import dataclasses
import inspect
import math
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import cache, partial
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT, Raw, Struct, UnsetType

from .codec import Encoding
from .errors import InvalidArguments, InvalidCommand
from .messages import CommandAbout
from .topics import is_name

_AT = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_MISSING = re.compile(r"Object missing required field `(\w+)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$")
_TOO_FEW = re.compile(r"Expected `array` of at least length (\d+), got (\d+)$")
_TOO_MANY = re.compile(r"Expected `array` of at most length (\d+)(?:, got \d+)?$")
_WRITTEN: Final = {
    "Invalid RFC3339 encoded datetime": "2026-11-25T10:00:00Z",
    "Invalid RFC3339 encoded date": "2026-11-25",
    "Invalid RFC3339 encoded time": "10:00:00",
    "Invalid ISO8601 duration": "PT5S",
    "Invalid decimal string": "1.5",
    "Invalid UUID": "123e4567-e89b-12d3-a456-426614174000",
    "Invalid base64 encoded string": "aGVsbG8=",
}
"""How what msgspec could not read is written: its words name standards, and few know them by number."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_EMPTY: Final = {Encoding.JSON: (b"{}", b"[]"), Encoding.MSGPACK: (b"\x80", b"\x90")}


class CommandSpec:
    """What a command is called, takes and gives, derived from a function.

    :ivar name: the command's name.
    :ivar help: the function's docstring, without its indentation.
    :ivar parameters: the arguments' names in positional order; keyword-only ones follow.
    :ivar positional: how many of them may be given by position.
    :ivar injected: parameters filled in by the device (a `Job`), by name; never taken from a message.
    """

    def __init__(
        self, function: Callable[..., object], *, name: str | None = None, injectable: Collection[type] = ()
    ) -> None:
        """Read the signature.

        :param injectable: types whose parameters the device fills in itself.
        :raises InvalidCommand: where an annotation is missing or no message can carry its type.
        """
        self.name: str = name or getattr(function, "__name__", "") or ""
        if not is_name(self.name):
            raise InvalidCommand(f"a command cannot be called {self.name!r}: use A-Z a-z 0-9 _ -")
        self.help = inspect.getdoc(function) or ""
        hints = self._hints(function)
        fields: list[tuple[str, object, object]] = []
        injected: dict[str, type] = {}
        self.positional = 0
        for parameter in inspect.signature(function).parameters.values():
            where = f"command {self.name!r}, parameter {parameter.name!r}"
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise InvalidCommand(f"{where}: name and annotate each argument instead of * or **")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise InvalidCommand(f"{where} is positional only; arguments are named, so drop the /")
            if parameter.name not in hints:
                raise InvalidCommand(f"{where} has no annotation; write its type, as in `{parameter.name}: int`")
            hint = hints[parameter.name]
            if isinstance(hint, type) and hint in injectable:
                injected[parameter.name] = hint
                continue
            default = NODEFAULT if parameter.default is parameter.empty else parameter.default
            fields.append((parameter.name, hint, _safe_default(default)))
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self.positional = len(fields)
        self.parameters = tuple(field[0] for field in fields)
        self.injected: Mapping[str, type] = injected
        try:
            self._arguments = _Arguments(self.name, fields, self.positional)
            self.arguments_schema = _with_defaults(_flat_schema(self._arguments.named_type), fields)
            self.result_schema = _flat_schema(hints.get("return", typing.Any), schema_hook=_anything)
        except (TypeError, ValueError) as error:
            where, why = _culprit([*fields, ("return", hints.get("return", typing.Any), NODEFAULT)], error)
            raise InvalidCommand(f"command {self.name!r}{where}: no message can carry this: {why}") from error

    def arguments(self, args: Raw | UnsetType, encoding: Encoding) -> dict[str, Any]:
        """Decode and check the `args` of a message.

        :returns: keyword arguments for the function, with the defaults of those left out.
        :raises InvalidArguments: naming the argument that is missing, unknown, ill-typed, out of range or not finite.
        """
        return self._arguments.decode(args, encoding)

    def about(
        self, *, idempotent: bool = False, timeout: float | None = None, max_parallel: int | None = None
    ) -> CommandAbout:
        """The command as it stands in the device's `About`."""
        return CommandAbout(
            help=self.help,
            arguments=self.arguments_schema,
            result=self.result_schema,
            idempotent=idempotent,
            timeout=timeout,
            max_parallel=max_parallel,
        )

    def _hints(self, function: Callable[..., object]) -> dict[str, Any]:
        try:
            return typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError) as error:
            raise InvalidCommand(
                f"command {self.name!r}: an annotation cannot be resolved ({error}); "
                "with `from __future__ import annotations` types must be importable at module level"
            ) from error


class _Decodes(typing.Protocol):
    def decode(self, buf: bytes, /) -> Struct: ...


class _Arguments:
    """The decoders of one command: named and positional, in both encodings."""

    def __init__(self, command: str, fields: list[tuple[str, object, object]], positional: int) -> None:
        self.names = tuple(name for name, _, _ in fields)
        self.named_type = _struct(command, fields)
        # Positional ones are decoded as the array form of the same fields; keyword-only ones cannot be given so.
        self.positional_type = _struct(command, fields[:positional], array_like=True)
        self.keyword_only_required = tuple(name for name, _, default in fields[positional:] if default is NODEFAULT)
        self._decoders: dict[Encoding, tuple[_Decodes, _Decodes]] = {
            Encoding.JSON: (msgspec.json.Decoder(self.named_type), msgspec.json.Decoder(self.positional_type)),
            Encoding.MSGPACK: (msgspec.msgpack.Decoder(self.named_type), msgspec.msgpack.Decoder(self.positional_type)),
        }

    def decode(self, args: Raw | UnsetType, encoding: Encoding) -> dict[str, Any]:
        raw = _EMPTY[encoding][0] if isinstance(args, UnsetType) else bytes(args).lstrip(b" \t\r\n")
        if not self.names and raw in _EMPTY[encoding]:
            return {}
        named = _is_map(raw, encoding)
        if not named and not _is_array(raw, encoding):
            raise InvalidArguments("args must be an object (named arguments) or a list (positional arguments)")
        decoder = self._decoders[encoding][0 if named else 1]
        try:
            decoded = decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise self._explain(str(error)) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidArguments(f"args cannot be read: {error}") from error
        if not named and self.keyword_only_required:
            raise self._explain(f"Object missing required field `{self.keyword_only_required[0]}`")
        given = {name: getattr(decoded, name) for name in decoded.__struct_fields__}
        for name, value in given.items():
            check_finite(value, name)
        return given

    def _explain(self, message: str) -> InvalidArguments:
        """Say which argument is at fault, in place of msgspec's path."""
        if found := _MISSING.search(message):
            return InvalidArguments(f"argument {found[1]!r} is missing", argument=found[1])
        if found := _TOO_FEW.search(message):
            name = self.names[int(found[2])]
            return InvalidArguments(f"argument {name!r} is missing", argument=name)
        if found := _TOO_MANY.search(message):
            positional = self.positional_type.__struct_fields__
            takes = ", ".join(positional) or "none"
            by_name = ", ".join(name for name in self.names if name not in positional)
            more = f"; by name: {by_name}" if by_name else ""
            return InvalidArguments(f"more than {found[1]} positional arguments (it takes: {takes}{more})")
        if found := _UNKNOWN.search(message):
            takes = ", ".join(self.names) or "none"
            return InvalidArguments(f"unknown argument {found[1]!r} (it takes: {takes})", argument=found[1])
        at = _AT.search(message)
        step = _STEP.match(at[1]) if at else None
        if at is None or step is None:
            return InvalidArguments(message)
        name = step[1] or self.names[int(step[2])]
        inner = at[1][step.end() :]
        said = message[: at.start()].replace("`", "")
        if (written := _WRITTEN.get(said)) is not None:
            said = f"{said}; write it as {written}"
        return InvalidArguments(f"argument {name!r}: {said}{f' (at {inner})' if inner else ''}", argument=name)


def _struct(command: str, fields: Iterable[tuple[str, object, object]], *, array_like: bool = False) -> type[Struct]:
    return msgspec.defstruct(
        f"{command}_arguments".replace("-", "_"),
        [field if field[2] is not NODEFAULT else field[:2] for field in fields],
        kw_only=True,
        forbid_unknown_fields=True,
        array_like=array_like,
    )


def _safe_default(default: object) -> object:
    """Defaults that msgspec refuses to share (filled lists, dicts, mutable Structs) are copied for each call."""
    if (default and type(default) in (list, dict, set)) or (
        isinstance(default, Struct) and not default.__struct_config__.frozen
    ):
        return msgspec.field(default_factory=partial(copy.copy, default))
    return default


def _with_defaults(schema: dict[str, Any], fields: Iterable[tuple[str, object, object]]) -> dict[str, object]:
    """The schema with those defaults that are made anew for each call, which msgspec leaves out."""
    for name, _, default in fields:
        factory = getattr(default, "default_factory", None)
        if isinstance(factory, partial):
            with suppress(TypeError):  # nothing that JSON can say
                schema["properties"][name]["default"] = msgspec.to_builtins(factory())
    return schema


def _flat_schema(annotation: object, schema_hook: Callable[[type], dict[str, Any]] | None = None) -> dict[str, object]:
    """JSON Schema with the outermost `$ref` resolved, so that a reader finds `properties` at the top."""
    schema: dict[str, Any] = msgspec.json.schema(annotation, schema_hook=schema_hook)
    schema.pop("title", None)
    name = schema.pop("$ref", "").removeprefix("#/$defs/")
    if name:
        definitions = schema.pop("$defs")
        if f"#/$defs/{name}" in str(definitions):
            return {"$ref": f"#/$defs/{name}", "$defs": definitions}
        schema |= definitions.pop(name)
        schema.pop("title", None)
        if definitions:
            schema["$defs"] = definitions
    return schema


def _culprit(fields: Iterable[tuple[str, object, object]], error: Exception) -> tuple[str, str]:
    """Which part of a signature is at fault, and why, in words for whom wrote it."""
    for name, hint, _ in fields:
        try:
            msgspec.json.schema(hint, schema_hook=_anything if name == "return" else None)
        except (TypeError, ValueError) as fault:
            where = ", its result" if name == "return" else f", parameter {name!r}"
            if "custom types" not in str(fault):
                return where, str(fault)
            return where, (
                f"{str(fault).splitlines()[-1]}; use numbers, text, bytes, times, Literal, an Enum, lists, dicts or a "
                "msgspec Struct (a parameter that is to be the Job is annotated just `Job`)"
            )
    return "", str(error)


def _anything(annotation: type) -> dict[str, Any]:
    """`object` as the type of a result says no more than that there is one."""
    if annotation is object:
        return {"description": "any value"}
    raise NotImplementedError


def _is_map(raw: bytes, encoding: Encoding) -> bool:
    if encoding is Encoding.JSON:
        return raw[:1] == b"{"
    return raw[:1] != b"" and (0x80 <= raw[0] <= 0x8F or raw[0] in (0xDE, 0xDF))


def _is_array(raw: bytes, encoding: Encoding) -> bool:
    if encoding is Encoding.JSON:
        return raw[:1] == b"["
    return raw[:1] != b"" and (0x90 <= raw[0] <= 0x9F or raw[0] in (0xDC, 0xDD))


def check_finite(value: object, name: str) -> None:
    """Refuse NaN, infinities and integers that no other peer could carry, anywhere in the argument `name`.

    MessagePack and `Decimal` carry the first two; JSON would make null of them, which another function may well take.

    :raises InvalidArguments: names the argument.
    """
    match value:
        case bool():
            return
        case int():
            if not _INT_MIN <= value <= _INT_MAX:
                raise InvalidArguments(f"argument {name!r}: an integer of more than 64 bits", argument=name)
        case float() | Decimal():
            if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
                raise InvalidArguments(f"argument {name!r}: {value} is not a finite number", argument=name)
        case list() | tuple() | set() | frozenset():
            for item in typing.cast("Iterable[object]", value):
                check_finite(item, name)
        case dict():
            for key, item in typing.cast("dict[object, object]", value).items():
                check_finite(key, name)
                check_finite(item, name)
        case _:
            kind: type[object] = value.__class__
            for field in _fields(kind):  # type: ignore[arg-type]  # mypy looks at the instances' __hash__
                check_finite(getattr(value, field, None), name)


@cache
def _fields(kind: type[object]) -> tuple[str, ...]:
    """The fields of a Struct, a dataclass or a class made by attrs; none of anything else."""
    if issubclass(kind, Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))
