"""What requests over HTTP say, wherever they say it, and what is wrong with it."""

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, cast
from uuid import UUID

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import ClientException, HTTPException, SerializationException

FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
CANONICAL: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
"""A UUID in its usual form, over HTTP and over MQTT."""


class Unfit(HTTPException):
    """A parameter is missing or cannot be. The hub makes problem details of it, as of its own errors."""

    status_code = 422


async def parameters(request: Request[object, object, State]) -> Mapping[str, object]:
    """The parameters in the query string, a form or a JSON object; in several places they must agree.

    :raises Unfit: they do not, or the body is nothing of that.
    """
    found: defaultdict[str, list[object]] = defaultdict(list)
    for name, value in [*request.query_params.multi_items(), *await _in_body(request)]:
        if value not in found[name]:
            found[name].append(value)
    for name, values in found.items():
        if len(values) > 1:
            raise Unfit(f"{name} is given {len(values)} times: " + ", ".join(map(repr, values)))
    return {name: value for name, (value,) in found.items()}


async def _in_body(request: Request[object, object, State]) -> list[tuple[str, object]]:
    if not await request.body():
        return []
    if request.content_type[0] in FORMS:
        try:
            return list((await request.form()).multi_items())
        except (ClientException, ValueError, LookupError) as error:  # the last two: its text is not of its charset
            reason = error.detail if isinstance(error, ClientException) else error
            raise Unfit(f"the body is no form, though it says so: {reason}") from None
    try:
        given: object = await request.json()
    except SerializationException:
        given = None
    if not isinstance(given, dict):
        raise Unfit("the body is neither a form nor a JSON object")
    return list(cast("dict[str, object]", given).items())


def uuid_of(given: Mapping[str, object]) -> UUID:
    """The `uuid` among the parameters.

    :raises Unfit: it is missing, or no UUID in its usual form.
    """
    text = given.get("uuid")
    if text is None:
        raise Unfit("uuid is missing")
    if not (isinstance(text, str) and re.fullmatch(CANONICAL, text)):
        raise Unfit(f"uuid must be like 7d444840-9dc0-4a2b-8d8f-1c5e5e3d5f2a, not {text!r}")
    return UUID(text)


def uuid4_of(given: Mapping[str, object]) -> UUID:
    """The same where it has to be of version 4, a random one."""
    uuid = uuid_of(given)
    if uuid.version != 4:
        raise Unfit(f"uuid must be of version 4, and {uuid} is not")
    return uuid


def symbol_of(symbol: object) -> str:
    """A letter.

    :raises Unfit: it is missing, or anything else.
    """
    if symbol is None:
        raise Unfit("symbol is missing")
    if not (isinstance(symbol, str) and len(symbol) == 1 and "a" <= symbol <= "z"):
        raise Unfit(f"symbol must be a letter from a to z, not {symbol!r}")
    return symbol


def moment_of(name: str, text: str) -> datetime:
    """A date, its midnight, or a datetime; in UTC where it names no offset.

    :raises Unfit: it is neither.
    """
    try:
        # By itself it takes any character between date and time, so an offset behind a date for a time; and weeks.
        if text[10:11] not in ("", "T", "t", " ") or "W" in text:
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unfit(
            f"{name} must be a date or a datetime, as 2026-11-25 or 2026-11-25T14:30:00.5, not {text!r}"
        ) from None
