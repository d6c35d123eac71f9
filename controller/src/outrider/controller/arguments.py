"""Arguments as people type them, read by the device's own schema.

5 "two words"            by position
x=5 msg="two words"      by name
5 msg="two words"        first by position, then by name
[5, "two words"]         JSON, also {"x": 5, "msg": "two words"}
"""

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Protocol, cast

from msgspec import DecodeError, json

from outrider.schema import CommandAbout, InvalidArguments

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_NAME_EQUALS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_NUMBER = re.compile(r"[+-]?(\d{1,15}\.?\d{0,15}|\.\d{1,15})", re.ASCII)
_BLANK = re.compile(r"\s*")
_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+(?=\s|$)""", re.DOTALL)
_CALL = re.compile(r"\s*([A-Za-z0-9_-]+)\s*\((.*)\)\s*$", re.DOTALL)

Arguments = dict[str, object] | list[object]


def split(line: str) -> list[str]:
    """The words of a line as a shell would split them, but JSON objects and arrays stay whole without quotes.

    :raises InvalidArguments: a quote does not close.
    """
    words: list[str] = []
    at = 0
    while blank := _BLANK.match(line, at):
        at = blank.end()
        if at == len(line):
            break
        end = _json_end(line, at)
        if end is not None:
            words.append(line[at:end])
            at = end
            continue
        word = _WORD.match(line, at)
        # What is no whole word has a quote that does not close, which shlex then says.
        text, at = (word[0], word.end()) if word else (line[at:], len(line))
        try:
            words += shlex.split(text)
        except ValueError as error:
            raise InvalidArguments(
                f"{error}: quotes must close, and a quote inside quotes needs a \\ before it"
            ) from error
    return words


def split_call(line: str) -> tuple[str, list[str]] | None:
    """`calculate(5, "hello")` as its name and words; None if the line does not have this form.

    :raises InvalidArguments: brackets or quotes do not close.
    """
    call = _CALL.match(line)
    if call is None:
        return None
    return call[1], _split_commas(call[2])


def parse(words: Sequence[str], about: CommandAbout | None, command: str, *, partial: bool = False) -> Arguments:
    """Typed arguments from words.

    A word is read by the schema of its parameter: as it stands where that is text, else as JSON. One word that is a
    JSON object or array gives all arguments at once, unless the parameter it would belong to takes an object or array.

    :param about: the command's own description; without it words that look like JSON are read as JSON.
    :param partial: more arguments may follow, so none is missing.
    :raises InvalidArguments: naming the argument that is unknown, missing, ill-typed or out of range.
    """
    for word in (command, *words):
        if not _is_text(word):
            raise InvalidArguments(f"{word!r} is not UTF-8")
    if not words and (about is None or not about.arguments.get("required")):
        return []
    schema: Mapping[str, object] = _schema_of(about) if about else {}
    properties = cast("dict[str, object]", schema.get("properties", {}))
    whole = _whole(words, properties, schema)
    arguments = _read(words, properties, schema) if whole is None else whole
    if about:
        check(arguments, about, command, partial=partial)
    return arguments


def _read(words: Sequence[str], properties: Mapping[str, object], schema: Mapping[str, object]) -> Arguments:
    """Words by position, by name, or first the one and then the other, which the schema's order makes all named."""
    named = [_NAMED.fullmatch(word) for word in words]
    # Beside words by position, only the name of a parameter makes a word one by name: else it is text with a = in it,
    # unless the name is so near to a parameter's that it may be misspelt.
    count = (
        0 if all(named) else next((at for at, each in enumerate(named) if each and each[1] in properties), len(words))
    )
    for name, each in zip(properties, named[:count], strict=False):
        if each and (near := difflib.get_close_matches(each[1], properties, n=1)):
            raise InvalidArguments(
                f"there is no argument {each[1]!r}; did you mean {near[0]}=? "
                f"If {_short(repr(each[0]))} is the value of {name!r}, write {name}= before it",
                argument=each[1],
            )
    parameters = [*properties.values(), *[None] * count]
    values = [_value(word, parameter, schema) for word, parameter in zip(words[:count], parameters, strict=False)]
    if count == len(words):
        return values
    if count > len(properties):
        raise InvalidArguments(f"{count} arguments by position are too many: there are {', '.join(properties)}")
    arguments = dict(zip(properties, values, strict=False))
    for word, each in zip(words[count:], named[count:], strict=True):
        if each is None:
            raise InvalidArguments(
                f"{_short(repr(word))} has no name and stands behind one by name: write NAME= before it"
            )
        if each[1] in arguments:
            raise InvalidArguments(f"argument {each[1]!r} is given twice", argument=each[1])
        arguments[each[1]] = _value(each[2], properties.get(each[1]), schema)
    return arguments


def check(arguments: Arguments, about: CommandAbout, command: str, *, partial: bool = False) -> None:
    """Check arguments against the device's schema, before anything is sent.

    Where the device's schema is none, it must judge itself.

    :param partial: none is missing.
    :raises InvalidArguments: naming the argument at fault.
    """
    schema = _schema_of(about)
    if not schema:
        return
    properties = cast("dict[str, object]", schema.get("properties", {}))
    takes = f"{command} takes {', '.join(properties) or 'no arguments'}"
    if isinstance(arguments, list):
        if len(arguments) > len(properties):
            raise InvalidArguments(f"{len(arguments)} arguments are too many: {takes}")
        arguments = dict(zip(properties, arguments, strict=False))
    for name in arguments:
        if name not in properties:
            raise InvalidArguments(f"unknown argument {name!r}: {takes}", argument=name)
    if partial:
        schema = {key: value for key, value in schema.items() if key != "required"}
    for name in cast("list[str]", schema.get("required", [])):
        if name not in arguments:
            raise InvalidArguments(f"argument {name!r} is missing: {takes}", argument=name)
    error = _first_error(schema, arguments)
    if error is None:
        return
    if not error.absolute_path:
        raise InvalidArguments(f"{command}: {_short(error.message)}")
    argument, *steps = error.absolute_path
    inner = "".join(f"[{step!r}]" for step in steps)
    raise InvalidArguments(f"argument {str(argument)!r}{inner}: {_short(error.message)}", argument=str(argument))


# jsonschema is imported where it is needed: that takes as long as all of a subcommand which needs it not.


def _schema_of(about: CommandAbout) -> Mapping[str, object]:
    """The schema of the arguments; empty if it is none, since it comes from the device."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(about.arguments)
    except (SchemaError, RecursionError):
        return {}
    return about.arguments


def _first_error(schema: Mapping[str, object], arguments: Mapping[str, object]) -> "ValidationError | None":
    """The fault that says most, if there is one. What is beyond the schema's own definitions is not followed."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match  # pyright: ignore[reportUnknownVariableType]  # stub without result
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # A registry of our own: by default a reference to another host would be fetched from there.
    validator = cast("_Validator", Draft202012Validator(schema, registry=Registry()))
    try:
        return cast("ValidationError | None", best_match(validator.iter_errors(arguments)))
    except (Unresolvable, RecursionError, re.error):
        return None


class _Validator(Protocol):
    def iter_errors(self, instance: object) -> "Iterator[ValidationError]": ...


def _short(message: str) -> str:
    """A message that repeats what was typed, without its middle where that is long."""
    return message if len(message) <= 300 else f"{message[:140]} … {message[-140:]}"


def _is_text(word: str) -> bool:
    """False for bytes of the command line that are no UTF-8, which Python carries as lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_end(line: str, at: int) -> int | None:
    """Where the JSON object or array that is the word at `at`, or its value after `name=`, ends; None if it is none."""
    name = _NAME_EQUALS.match(line, at)
    begin = name.end() if name else at
    if line[begin : begin + 1] not in ("{", "["):
        return None
    try:
        _, end = JSONDecoder().raw_decode(line, begin)
    except (JSONDecodeError, RecursionError):
        return None
    return end if line[end : end + 1].isspace() or end == len(line) else None


def _whole(words: Sequence[str], properties: Mapping[str, object], schema: Mapping[str, object]) -> Arguments | None:
    """All arguments at once, where the only word is a JSON object or array that is not itself the first argument."""
    if len(words) != 1 or words[0].lstrip()[:1] not in ("{", "["):
        return None
    first = next(iter(properties.values()), None)
    try:
        value = json.decode(words[0])
    except (DecodeError, RecursionError) as error:
        if first is not None and "string" in _types(first, schema):
            return None
        raise InvalidArguments(f"{_short(repr(words[0]))} is not JSON: {error}") from error
    if not isinstance(value, dict | list):
        return None
    if first is not None and isinstance(value, list) and "array" in _types(first, schema):
        return None
    if first is not None and isinstance(value, dict) and "object" in _types(first, schema):
        names = cast("dict[str, object]", value)
        if not names.keys() <= properties.keys():
            return None
    return cast("Arguments", value)


def _value(text: str, parameter: object, schema: Mapping[str, object]) -> object:
    """A word as what its parameter takes; where that may be text, whatever is nothing else it takes is text."""
    types = _types(parameter, schema)
    if types == {"string"}:
        return text
    try:
        value = json.decode(text)
    except (DecodeError, RecursionError):
        if not types & {"number", "integer"} or "string" in types or not _NUMBER.fullmatch(text):
            return text
        value = json.decode(str(float(text)))  # as people write numbers and JSON does not: .5, 5., +5, 007
    if isinstance(value, float) and value.is_integer() and "integer" in types and "number" not in types:
        value = int(value)  # 1e3 is an integer to JSON Schema, and none to most decoders
    if "string" in types and not _type_names(value) & types:
        return text
    return value


def _types(parameter: object, schema: Mapping[str, object], depth: int = 8) -> set[str]:
    """The JSON types a parameter may have; empty where it does not say."""
    if not isinstance(parameter, dict) or depth == 0:
        return set()
    fields = cast("dict[str, object]", parameter)
    if "$ref" in fields:
        definitions = cast("dict[str, object]", schema.get("$defs", {}))
        return _types(definitions.get(str(fields["$ref"]).removeprefix("#/$defs/")), schema, depth - 1)
    if "anyOf" in fields:
        options = cast("list[object]", fields["anyOf"])
        return set[str]().union(*(_types(option, schema, depth - 1) for option in options))
    if "enum" in fields:
        return set[str]().union(*map(_type_names, cast("list[object]", fields["enum"])))
    kind = cast("str | list[str]", fields.get("type", []))
    return {kind} if isinstance(kind, str) else set(kind)


def _type_names(value: object) -> set[str]:
    """What JSON Schema calls the type of a decoded value."""
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
        case _:
            return {"object"}


def _split_commas(text: str) -> list[str]:
    """Words between the commas of a call, quotes taken off plain text; brackets and quotes keep their commas."""
    words: list[str] = []
    depth, quote, word = 0, "", ""
    at = 0
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\" and at + 1 < len(text):
                word += char + text[at + 1]
                at += 2
                continue
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            words.append(word)
            word, at = "", at + 1
            continue
        word += char
        at += 1
    if quote or depth:
        raise InvalidArguments('quotes and brackets must close, as in calculate(5, "hello")')
    if word.strip() or words:
        words.append(word)
    return [_unquoted(word.strip()) for word in words]


def _unquoted(word: str) -> str:
    """`"two words"` → two words, `msg="two words"` → msg=two words; JSON objects and arrays stay."""
    if word[:1] in ("{", "["):
        return word
    return " ".join(split(word)) if word else word
