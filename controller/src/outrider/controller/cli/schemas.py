"""JSON Schemas of arguments and results for people: in words, and as a value to try.

Schemas come from devices, so nothing about them is taken for granted: one that is not as JSON Schema says is told as
such, recursion ends, and sizes are bounded.
"""

from typing import Final, cast

from msgspec import UNSET, Struct, UnsetType, ValidationError, convert

from .terminal import json_text, printable

DEPTH: Final = 10
"""How deep a type is told; below that it is just an object, a list or anything."""

_SCHEMAS: Final = 1000
"""How many schemas within one are told."""

_MOST: Final = 16
"""Characters or items that an example has at most."""

_BESIDE_A_REFERENCE: Final = ("default", "description", "examples")
"""What a schema says of its own beside a `$ref`: an argument's default, not its type's."""

_FORMATS: Final = {
    "date-time": "2026-11-25T10:00:00Z",
    "date": "2026-11-25",
    "time": "10:00:00Z",
    "duration": "PT5S",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "decimal": "1.5",
}
"""An example of each kind of text that devices read as something else."""

_BASE64: Final = "aGVsbG8="

Number = int | float


class Schema(Struct, frozen=True, rename="camel"):
    """What a JSON Schema says, as far as it is told to people."""

    type: str | list[str] | None = None
    enum: list[object] | None = None
    const: object | UnsetType = UNSET
    default: object | UnsetType = UNSET
    examples: list[object] = []
    description: str = ""
    any_of: "list[Schema]" = []
    one_of: "list[Schema]" = []
    properties: "dict[str, Schema]" = {}
    required: list[str] = []
    additional_properties: "Schema | bool | None" = None
    items: "Schema | bool | None" = None
    prefix_items: "list[Schema]" = []
    format: str = ""
    content_encoding: str = ""
    pattern: str = ""
    minimum: Number | None = None
    maximum: Number | None = None
    exclusive_minimum: Number | None = None
    exclusive_maximum: Number | None = None
    multiple_of: Number | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None


def read(schema: object) -> Schema | None:
    """A schema as a device wrote it, its references resolved; None if it is not as JSON Schema says."""
    try:
        return convert(_Inliner(schema).inlined(schema), Schema)
    except (ValidationError, RecursionError):
        return None


def words(schema: Schema | None) -> str:
    """A type in words, as `integer, 0 to 100` or `list of text`."""
    if schema is None:
        return "something (its schema cannot be read)"
    if not isinstance(schema.const, UnsetType):
        return json_text(schema.const)
    if schema.enum:
        return " or ".join(json_text(value) for value in schema.enum)
    if union := schema.any_of or schema.one_of:
        return " or ".join(dict.fromkeys(words(each) for each in union))
    kinds = schema.type if isinstance(schema.type, list) else [schema.type or "anything"]
    return " or ".join(", ".join((_kind(kind, schema), *_limits(kind, schema))) for kind in kinds)


def takes_text(schema: Schema) -> bool:
    """Whether a value may be text."""
    kinds = schema.type if isinstance(schema.type, list) else [schema.type]
    return "string" in kinds or any(map(takes_text, (*schema.any_of, *schema.one_of)))


def example(schema: Schema | None) -> object:
    """A value that most likely fits: patterns are not worked out."""
    if schema is None:
        return None
    for known in (schema.examples, schema.enum or []):
        if known:
            return known[0]
    for value in (schema.default, schema.const):
        if not isinstance(value, UnsetType):
            return value
    if union := schema.any_of or schema.one_of:
        return example(union[0])
    match schema.type[0] if isinstance(schema.type, list) and schema.type else schema.type:
        case "integer":
            return int(_number(schema, 1))
        case "number":
            return _number(schema, 0.5)
        case "boolean":
            return True
        case "string":
            least = min(schema.min_length or 0, _MOST)
            if schema.content_encoding == "base64":
                return _BASE64
            if schema.format in _FORMATS:
                return _FORMATS[schema.format]
            return "hello"[: schema.max_length].ljust(least, "o")
        case "array":
            items = schema.items if isinstance(schema.items, Schema) else Schema()
            return [example(each) for each in schema.prefix_items or [items] * min(schema.min_items or 1, _MOST)]
        case "object":
            return {name: example(schema.properties[name]) for name in schema.required if name in schema.properties}
        case _:
            return None


class _Inliner:
    """Puts what `$ref`s point to in their place, down to a depth and up to a number of schemas; then anything goes."""

    def __init__(self, root: object) -> None:
        self._definitions = _mapping(_mapping(root).get("$defs"))
        self._left = _SCHEMAS

    def inlined(self, schema: object, depth: int = DEPTH) -> object:
        if isinstance(schema, list):
            return [self.inlined(each, depth) for each in cast("list[object]", schema)]
        if not isinstance(schema, dict):
            return schema
        if depth < 0 or self._left <= 0:
            return {}
        self._left -= 1
        fields = cast("dict[str, object]", schema)
        reference = fields.get("$ref")
        if isinstance(reference, str):
            meant = self.inlined(self._definitions.get(reference.removeprefix("#/$defs/"), {}), depth - 1)
            return _mapping(meant) | {key: fields[key] for key in _BESIDE_A_REFERENCE if key in fields}
        inlined: dict[str, object] = {}
        for key, value in fields.items():
            if key == "properties":
                inlined[key] = {name: self.inlined(each, depth - 1) for name, each in _mapping(value).items()}
            elif key in ("items", "prefixItems", "anyOf", "oneOf", "additionalProperties"):
                inlined[key] = self.inlined(value, depth - 1)
            else:
                inlined[key] = value
        return inlined


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _kind(kind: str, schema: Schema) -> str:
    match kind:
        case "string":
            return "bytes in base64" if schema.content_encoding == "base64" else printable(schema.format) or "text"
        case "array" if schema.prefix_items:
            return f"list ({'; '.join(words(each) for each in schema.prefix_items)})"
        case "array":
            return f"list of {words(schema.items)}" if isinstance(schema.items, Schema) else "list"
        case "object" if schema.properties:
            fields = (f"{printable(name)}: {words(each)}" for name, each in schema.properties.items())
            return f"object ({'; '.join(fields)})"
        case "object" if isinstance(schema.additional_properties, Schema):
            return f"object of {words(schema.additional_properties)}"
        case "null":
            return "nothing"
        case _:
            return printable(kind)


def _limits(kind: str, schema: Schema) -> list[str]:
    """The ranges, lengths and patterns of one type."""
    match kind:
        case "integer" | "number":
            limits = _range(schema.minimum, schema.maximum, "")
            limits += [f"above {schema.exclusive_minimum}"] if schema.exclusive_minimum is not None else []
            limits += [f"below {schema.exclusive_maximum}"] if schema.exclusive_maximum is not None else []
            limits += [f"a multiple of {schema.multiple_of}"] if schema.multiple_of is not None else []
        case "string":
            limits = _range(schema.min_length, schema.max_length, " characters")
            limits += [f"matching {printable(schema.pattern)}"] if schema.pattern else []
        case "array" if not schema.prefix_items:
            limits = _range(schema.min_items, schema.max_items, " items")
        case _:
            limits = []
    return limits


def _range(low: Number | None, high: Number | None, unit: str) -> list[str]:
    if low is not None and high is not None:
        return [f"{low} to {high}{unit}"]
    if low is not None:
        return [f"at least {low}{unit}"]
    return [f"at most {high}{unit}"] if high is not None else []


def _number(schema: Schema, step: float) -> Number:
    """1, brought into the range."""
    value: Number = 1 if schema.multiple_of is None else schema.multiple_of
    if schema.minimum is not None:
        value = max(value, schema.minimum)
    if schema.exclusive_minimum is not None and value <= schema.exclusive_minimum:
        value = schema.exclusive_minimum + step
    if schema.maximum is not None:
        value = min(value, schema.maximum)
    if schema.exclusive_maximum is not None and value >= schema.exclusive_maximum:
        value = schema.exclusive_maximum - step
    return value
