"""Arguments as people type them, read by the device's own schema.

    5 "two words"            by position
    x=5 msg="two words"      by name
    [5, "two words"]         JSON, also {"x": 5, "msg": "two words"}
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from json import JSONDecodeError, JSONDecoder
from typing import Any, cast

import jsonschema
from msgspec import DecodeError, json

from outrider.schema import CommandAbout, InvalidArguments

_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_NAME_EQUALS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
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


def parse(words: Sequence[str], about: CommandAbout | None, command: str) -> Arguments:
    """Typed arguments from words.

    A word is read by the schema of its parameter: as it stands where that is text, else as JSON. One word that is a
    JSON object or array gives all arguments at once, unless the parameter it would belong to takes an object or array.

    :param about: the command's own description; without it words that look like JSON are read as JSON.
    :raises InvalidArguments: naming the argument that is unknown, missing, ill-typed or out of range.
    """
    schema: Mapping[str, Any] = about.arguments if about else {}
    properties: dict[str, Any] = schema.get("properties", {})
    whole = _whole(words, properties, schema)
    if whole is not None:
        arguments = whole
    else:
        named = [_NAMED.fullmatch(word) for word in words]
        if words and all(named):
            arguments = {each[1]: _value(each[2], properties.get(each[1]), schema) for each in named if each}
        elif mixed := next((each[1] for each in named if each and each[1] in properties), None):
            raise InvalidArguments(f"{mixed}= is by name, others are by position: give all one way, or JSON")
        else:
            parameters = [*properties.values(), *[None] * len(words)]
            arguments = [_value(word, parameter, schema) for word, parameter in zip(words, parameters, strict=False)]
    if about:
        check(arguments, about, command)
    return arguments


def check(arguments: Arguments, about: CommandAbout, command: str) -> None:
    """Check arguments against the device's schema, before anything is sent.

    :raises InvalidArguments: naming the argument at fault.
    """
    properties: dict[str, Any] = cast("dict[str, Any]", about.arguments.get("properties", {}))
    takes = f"{command} takes {', '.join(properties) or 'no arguments'}"
    if isinstance(arguments, list):
        if len(arguments) > len(properties):
            raise InvalidArguments(f"{len(arguments)} arguments are too many: {takes}")
        arguments = dict(zip(properties, arguments, strict=False))
    for name in arguments:
        if name not in properties:
            raise InvalidArguments(f"unknown argument {name!r}: {takes}", argument=name)
    for name in cast("list[str]", about.arguments.get("required", [])):
        if name not in arguments:
            raise InvalidArguments(f"argument {name!r} is missing: {takes}", argument=name)
    validator = jsonschema.Draft202012Validator(about.arguments)
    error = jsonschema.exceptions.best_match(validator.iter_errors(arguments))
    if error is not None:
        name = str(error.absolute_path[0]) if error.absolute_path else ""
        inner = "".join(f"[{step!r}]" for step in list(error.absolute_path)[1:])
        raise InvalidArguments(f"argument {name!r}{inner}: {error.message}", argument=name or None)


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


def _whole(words: Sequence[str], properties: Mapping[str, Any], schema: Mapping[str, Any]) -> Arguments | None:
    """All arguments at once, where the only word is a JSON object or array that is not itself the first argument."""
    if len(words) != 1 or words[0].lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.decode(words[0])
    except DecodeError as error:
        raise InvalidArguments(f"{words[0]!r} is not JSON: {error}") from error
    if not isinstance(value, dict | list):
        return None
    first = next(iter(properties.values()), None)
    if first is not None and isinstance(value, list) and "array" in _types(first, schema):
        return None
    if first is not None and isinstance(value, dict) and "object" in _types(first, schema):
        names = cast("dict[str, object]", value)
        if not names.keys() <= properties.keys():
            return None
    return cast("Arguments", value)


def _value(text: str, parameter: Any, schema: Mapping[str, Any]) -> object:
    types = _types(parameter, schema) if parameter is not None else set[str]()
    if types == {"string"}:
        return text
    try:
        value = json.decode(text)
    except DecodeError:
        return text
    if "string" in types and isinstance(value, int | float) and not types & {"integer", "number"}:
        return text
    return value


def _types(parameter: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    """The JSON types a parameter may have."""
    if "$ref" in parameter:
        name = str(parameter["$ref"]).removeprefix("#/$defs/")
        return _types(schema.get("$defs", {}).get(name, {}), schema)
    if "anyOf" in parameter:
        return set[str]().union(*(_types(each, schema) for each in parameter["anyOf"]))
    if "enum" in parameter:
        return {"string" if isinstance(value, str) else "number" for value in parameter["enum"]}
    kind = parameter.get("type", [])
    return {kind} if isinstance(kind, str) else set(kind)


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
        raise InvalidArguments("quotes and brackets must close, as in calculate(5, \"hello\")")
    if word.strip() or words:
        words.append(word)
    return [_unquoted(word.strip()) for word in words]


def _unquoted(word: str) -> str:
    """`"two words"` → two words, `msg="two words"` → msg=two words; JSON objects and arrays stay."""
    if word[:1] in ("{", "["):
        return word
    return " ".join(split(word)) if word else word
