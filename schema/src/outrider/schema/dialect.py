"""JSON Schemas in the dialect of AsyncAPI: from 2020-12, which msgspec and devices write, to draft 07.

Types that others refer to (`$defs`) move to the document's components, where types that differ never share a name.
Schemas come from devices, so keywords that mean nothing here are left out, and so is every reference that leads
anywhere but to the schema's own definitions: a tool that reads the document would follow it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from inspect import cleandoc
from typing import Final, cast

from msgspec import json

_DEFINITION: Final = "#/$defs/"

_VALUES: Final = frozenset(
    {
        "type",
        "title",
        "description",
        "default",
        "examples",
        "enum",
        "const",
        "format",
        "required",
        "uniqueItems",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "contentEncoding",
        "contentMediaType",
        "deprecated",
        "readOnly",
        "writeOnly",
    }
)
_SCHEMA: Final = frozenset(("additionalProperties", "contains", "else", "if", "not", "propertyNames", "then"))
_SCHEMAS: Final = frozenset(("allOf", "anyOf", "oneOf"))

_MOST: Final = 100
"""Definitions in one schema that are followed one by one to tell types apart; more of them are all taken as one."""

_ESCAPES: Final = re.compile(r"\\(.)|\(\?P<", re.DOTALL)
_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")


class _Definitions:
    """The types that one schema defines."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self.schemas = _mapping(schema.get("$defs"))

    def meaning(self, name: str) -> bytes:
        """What two like-named types have in common if they are the same: their schema and all that it leads to."""
        return self._all if len(self.schemas) > _MOST else self._encoded(self._reachable(name))

    @cached_property
    def _all(self) -> bytes:
        return self._encoded(self.schemas)

    def _encoded(self, names: Iterable[str]) -> bytes:
        return json.encode({name: self.schemas[name] for name in names}, order="sorted")

    def _reachable(self, name: str) -> set[str]:
        reached: set[str] = set()
        ahead = [name]
        while ahead:
            each = ahead.pop()
            if each in self.schemas and each not in reached:
                reached.add(each)
                ahead.extend(_references(self.schemas[each]))
        return reached


class Schemas:
    """The named schemas of one document.

    :ivar components: by name, as they stand under `#/components/schemas/`.
    """

    def __init__(self) -> None:
        self.components: dict[str, dict[str, object]] = {}
        self._names: dict[tuple[str, str, bytes], str] = {}
        self._named: list[tuple[str, object]] = []

    def add(self, schema: Mapping[str, object], scope: str = "") -> dict[str, object]:
        """A schema as the document has it; the types that it defines become components.

        :param scope: stands before their names; the same type within one scope becomes one component.
        """
        definitions = _Definitions(schema)
        written = self._object(schema, definitions, scope)
        while self._named:  # a loop, for a chain of definitions may be longer than the stack is deep
            name, definition = self._named.pop()
            self.components[name] = self._object(_mapping(definition), definitions, scope)
        return written

    def _any(self, schema: object, definitions: _Definitions, scope: str) -> object:
        if isinstance(schema, bool):
            return schema
        return self._object(_mapping(schema), definitions, scope)

    def _object(self, schema: Mapping[str, object], definitions: _Definitions, scope: str) -> dict[str, object]:
        written: dict[str, object] = {}
        for key, value in schema.items():
            if key == "description" and isinstance(value, str):
                written[key] = cleandoc(value)  # four blanks before a line would make it code
            elif key in _VALUES and b'"$ref"' not in json.encode(value):
                written[key] = value
            elif key in _SCHEMA:
                written[key] = self._any(value, definitions, scope)
            elif key in _SCHEMAS:
                written[key] = [self._any(each, definitions, scope) for each in _list(value)]
            elif key == "properties":
                written[key] = {
                    name: self._any(each, definitions, scope)
                    for name, each in _mapping(value).items()
                    if name != "$ref"  # AsyncAPI's parser takes it for a reference, and fails
                }
            elif key == "patternProperties":
                written[key] = {
                    pattern(name): self._any(each, definitions, scope) for name, each in _mapping(value).items()
                }
            elif key == "pattern" and isinstance(value, str):
                written[key] = pattern(value)
        if "prefixItems" in schema:
            written["items"] = [self._any(each, definitions, scope) for each in _list(schema["prefixItems"])]
            if "items" in schema:
                written["additionalItems"] = self._any(schema["items"], definitions, scope)
        elif "items" in schema:
            written["items"] = self._any(schema["items"], definitions, scope)
        return self._with_reference(schema.get("$ref"), written, definitions, scope)

    def _with_reference(
        self, target: object, written: dict[str, object], definitions: _Definitions, scope: str
    ) -> dict[str, object]:
        if not isinstance(target, str) or target.removeprefix(_DEFINITION) not in definitions.schemas:
            return written
        reference = {"$ref": f"#/components/schemas/{self._name(target, definitions, scope)}"}
        # In draft 07 nothing counts that stands beside a reference.
        return written | {"allOf": [reference, *_list(written.get("allOf"))]} if written else dict(reference)

    def _name(self, target: str, definitions: _Definitions, scope: str) -> str:
        name = target.removeprefix(_DEFINITION)
        meant = definitions.meaning(name)
        known = self._names.get((scope, name, meant))
        if known is None:
            known = free_name(f"{scope}.{_OTHER.sub('_', name)}" if scope else name, self.components)
            self._names[scope, name, meant] = known
            self.components[known] = {}
            self._named.append((known, definitions.schemas[name]))
        return known


def pattern(python: str) -> str:
    r"""A regular expression as JavaScript reads it, which JSON Schema prescribes: Python's `\Z` is its `$`."""
    return _ESCAPES.sub(_escape, python)


def key_of(name: str) -> str:
    """A name as a key of the document: other characters than A-Z a-z 0-9 _ - become `_`."""
    return _OTHER.sub("_", name) or "_"


def free_name(wanted: str, taken: Mapping[str, object]) -> str:
    """The name, with a number behind it where it is taken."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _escape(match: re.Match[str]) -> str:
    return {"\\A": "^", "\\Z": "$", "(?P<": "(?<"}.get(match[0], match[0])


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, list):
        for each in cast("list[object]", schema):
            yield from _references(each)
    elif isinstance(schema, dict):
        for key, value in cast("dict[str, object]", schema).items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(_DEFINITION)
            else:
                yield from _references(value)


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
