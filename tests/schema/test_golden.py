import json

import pytest

from outrider.schema import Decoder, Encoding, encode

from .golden import FOLDER, SUFFIX, messages

CASES = [(encoding, name) for encoding in Encoding for name in messages(encoding)]


@pytest.mark.parametrize(("encoding", "name"), CASES)
def test_message_is_written_as_in_the_golden_file(encoding: Encoding, name: str) -> None:
    assert encode(messages(encoding)[name], encoding) == (FOLDER / f"{name}{SUFFIX[encoding]}").read_bytes()


@pytest.mark.parametrize(("encoding", "name"), CASES)
def test_golden_file_reads_as_the_message(encoding: Encoding, name: str) -> None:
    message = messages(encoding)[name]
    decoded, found = Decoder(type(message)).decode((FOLDER / f"{name}{SUFFIX[encoding]}").read_bytes())
    assert found is encoding
    assert encode(decoded, encoding) == encode(message, encoding)


def test_every_golden_file_belongs_to_a_message() -> None:
    known = {f"{name}{suffix}" for encoding, suffix in SUFFIX.items() for name in messages(encoding)}
    assert {file.name for file in FOLDER.iterdir()} == known


def test_keys_on_the_wire_are_those_of_the_protocol() -> None:
    command = json.loads((FOLDER / "command_named.json").read_bytes())
    assert list(command) == ["id", "command", "args", "from", "behalf", "to", "issued", "expires", "timeout", "trace"]
    result = json.loads((FOLDER / "result_done.json").read_bytes())
    assert list(result) == ["id", "device", "command", "status", "value", "started", "finished"]
    state = json.loads((FOLDER / "state_ready.json").read_bytes())
    assert list(state) == ["device", "status", "session", "since", "groups", "pools", "tags", "about"]
