"""The OpenAPI document: it has examples that fit, and the hub does what it says."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from jsonschema.validators import Draft202012Validator

from tests.brokers import ONE, BrokerUnderTest
from tests.controller.hub.running import RunningHub
from tests.controller.hub.scripting import start_locked
from tests.processes import Processes, script

# What a schema cannot say: a target's grammar, a chart's range. And OPTIONS, which Litestar answers for one method.
LEFT_OUT = "positive_data_acceptance,allow_header_conformance"

pytestmark = pytest.mark.parametrize("broker", [ONE], indirect=True, scope="session")


@pytest_asyncio.fixture
async def hub(broker: BrokerUnderTest, prefix: str, tmp_path: Path, spawn: Processes) -> AsyncIterator[RunningHub]:
    running = RunningHub(broker, prefix, tmp_path, spawn)
    await running.start()
    yield running


async def document(hub: RunningHub) -> dict[str, Any]:
    async with hub.client() as client:
        answer = await client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body that the document describes, and where."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for what, body in bodies.items():
                for kind, content in body.get("content", {}).items():
                    yield f"{method} {path} {what} {kind}", content


async def test_every_body_has_an_example_that_fits_its_schema(hub: RunningHub) -> None:
    described = await document(hub)
    count = 0
    for where, content in contents(described):
        examples = [each["value"] for each in content.get("examples", {}).values()]
        examples += content["schema"].get("examples", [])
        assert examples, f"{where} has no example"
        for example in examples:
            schema = {**content["schema"], "components": described["components"]}
            try:
                jsonschema.validate(example, schema, cls=Draft202012Validator)
            except jsonschema.ValidationError as error:
                raise AssertionError(f"{where}: {error.message} in {example}") from None
            count += 1
    assert count > 100


async def test_every_operation_and_parameter_is_described(hub: RunningHub) -> None:
    described = await document(hub)
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], f"{method} {path}"
            assert operation["description"], f"{method} {path}"
            for parameter in operation.get("parameters", []):
                said = parameter.get("description") or parameter["schema"].get("description")
                assert said, f"{method} {path} {parameter['name']}"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_hub_does_what_its_document_says(hub: RunningHub) -> None:
    await hub.start_device("lamp-1")
    await start_locked(hub)
    run = hub.processes(
        *(script("schemathesis"), "run", f"{hub.url}/api/v1/openapi.json", "--exclude-path", "/api/v1/live"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--exclude-checks", LEFT_OUT, "--no-color"),
        env=hub.environment,
        cwd=hub.folder,
    )
    assert await run.wait(580) == 0, run.output[-20_000:]
