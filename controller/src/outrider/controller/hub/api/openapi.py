"""The OpenAPI document: what Litestar makes of the types, with an example for each request and response."""

import importlib.metadata
from http import HTTPStatus
from typing import Any, Final

from litestar._openapi.schema_generation import SchemaCreator
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Example, OpenAPI, Parameter, Schema, SecurityScheme, Tag
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Raw, json

from .problems import EXAMPLES, MEDIA_TYPE, Problem

PATH: Final = "/api/v1"

RUN_JSON: Final = "/run-json"

RUN_FILE: Final = "/run-file"

ANY: Final = "Any JSON."

CLOSED: Final = frozenset({"CommandBody", "PlanBody", "RunBody", "Limits"})
"""Bodies that refuse unknown fields, so that a misspelt one is not left out silently."""

TAGS: Final = {
    "devices": "Who is there, how, and what they can do.",
    "commands": "Send, wait, look at, cancel; rollouts.",
    "scripts": "Run Python on devices that allow it, and see what became of it.",
    "history": "What the hub has recorded: the audit log, results, events and their sums.",
    "functions": "Functions of the hub's plugins, which devices call as well.",
    "live": "Changes as they happen.",
    "hub": "The hub itself.",
}


class RawSchema(OpenAPISchemaPlugin):
    """A value that is JSON already, of any type."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:  # noqa: ANN401  # Litestar's signature
        """Whether it is one."""
        return value is Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        """Any JSON at all."""
        return Schema(description=ANY)


def answers(
    shown: object,
    *problems: int,
    type: Any,  # noqa: ANN401  # what a handler returns; generic aliases are no types
    status: int = 200,
    description: str = "Done.",
    also: int | None = None,
) -> dict[int, ResponseSpec]:
    """How a handler's answers stand in the document: a good one with an example, and problems.

    :param shown: the example.
    :param also: another status with the same body.
    """
    good = ResponseSpec(type, description=description, generate_examples=False, examples=[example(shown)])
    known = {each: _problem(each) for each in sorted({400, 401, 403, 503, *problems})}
    return {status: good, **({also: good} if also else {}), **known}


def config() -> OpenAPIConfig:
    """What the document says of the API as a whole."""
    return OpenAPIConfig(
        title="outrider hub",
        version=importlib.metadata.version("outrider-controller"),
        summary="See a fleet of devices on an MQTT broker, command it, and ask for its history.",
        description="Errors are problem details (RFC 9457) with a `code` for programs. Times are Unix seconds.",
        path=f"{PATH}/openapi.json",
        render_plugins=[JsonRenderPlugin(path="/")],
        tags=[Tag(name, description=words) for name, words in TAGS.items()],
        components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"token": []}, {}],
        use_handler_docstrings=True,
    )


def tidy(document: OpenAPI) -> None:
    """Say what Litestar leaves out: that some bodies refuse unknown fields, and that any JSON may be null."""
    for name, schema in document.components.schemas.items():
        for field in (schema.properties or {}).values():
            if isinstance(field, Schema) and any(
                isinstance(each, Schema) and each.description == ANY for each in field.one_of or ()
            ):
                field.one_of = None
            elif isinstance(field, Schema):
                _from_zero(field)
        if name.rpartition("_")[2] in CLOSED or name in CLOSED:
            schema.additional_properties = False
    for path in (document.paths or {}).values():
        for operation in (path.get, path.post, path.delete):
            for parameter in (operation.parameters or []) if operation is not None else []:
                if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
                    _from_zero(parameter.schema)


def _from_zero(schema: Schema) -> None:
    """Give a number the least value that it may have: 0 is lost on the way."""
    if schema.maximum is not None and schema.minimum is None:
        schema.minimum = 0


def _problem(status: int) -> ResponseSpec:
    return ResponseSpec(
        Problem,
        description=HTTPStatus(status).phrase,
        media_type=MEDIA_TYPE,
        generate_examples=False,
        examples=[example(EXAMPLES[status])],
    )


def example(value: object) -> Example:
    """A value as it is sent, for the document."""
    return Example(value=json.decode(json.encode(value)))
