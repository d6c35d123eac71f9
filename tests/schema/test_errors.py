import inspect

import pytest

from outrider import schema
from outrider.schema import CONDITIONS, EXCEPTIONS, Code, LocalError, OutriderError, RemoteError, Status, errors


def test_every_exception_is_local_or_remote_and_public() -> None:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, OutriderError)]
    for each in classes:
        assert each is OutriderError or issubclass(each, LocalError) != issubclass(each, RemoteError)
        assert each.__name__ in schema.__all__
        assert each.__doc__
        assert errors.__doc__
        assert each.__name__ in errors.__doc__


def test_every_final_status_but_done_has_an_exception() -> None:
    assert set(EXCEPTIONS) == {status for status in Status if status.final and status is not Status.DONE}


def test_every_code_has_a_condition() -> None:
    assert {row.code for row in CONDITIONS if row.code} == set(Code)


@pytest.mark.parametrize("status", [Status.OFFLINE, Status.QUEUED, Status.RUNNING])
def test_requesters_words_are_not_final(status: Status) -> None:
    assert not status.final


def test_public_names_exist_once() -> None:
    assert sorted(schema.__all__, key=str) == sorted(set(schema.__all__))
    assert all(hasattr(schema, name) for name in schema.__all__)
