"""A device's final answer as Python has it: a value, or an exception."""

from typing import TypeVar, overload

from msgspec import UnsetType, json

from outrider.schema import EXCEPTIONS, Code, RemoteError, Result, Status

T = TypeVar("T")


def error_of(result: Result) -> RemoteError | None:
    """The exception for a final answer, None for `done`."""
    if result.status is Status.DONE:
        return None
    kind = EXCEPTIONS.get(result.status, RemoteError)
    error = result.error
    said = error.message if error else ""
    code = error.code if error else Code.INTERNAL
    words = f"{result.device}: {result.command} {result.status}" + (f" ({code})" if code else "")
    message = f"{words}: {said}" if said else words
    return kind(
        message, device=result.device, command=result.command, code=code, details=error.details if error else None
    )


@overload
def value_of(result: Result) -> object: ...


@overload
def value_of(result: Result, type: type[T]) -> T: ...


def value_of(result: Result, type: type[object] = object) -> object:
    """The value of a `done` result in JSON, None for any other.

    :param type: what to decode it as.
    :raises msgspec.ValidationError: it is of another type.
    """
    if isinstance(result.value, UnsetType):
        return None
    return json.decode(result.value, type=type)
