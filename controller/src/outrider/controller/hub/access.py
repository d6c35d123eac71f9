"""Who may ask over HTTP, and what was asked already: API tokens and idempotency keys."""

from collections.abc import Sequence

from msgspec import Struct, json
from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from outrider.schema import LocalError

from .tables import idempotency, indexed, tokens


class IdempotencyConflict(LocalError):
    """The key was used before, for something else."""


class TokenExists(LocalError):
    """There is a token of this name."""


class Token(Struct, frozen=True, kw_only=True):
    """Who asks with a token. Times are Unix seconds; `expires` is None for one that is good until it is removed."""

    name: str
    scopes: list[str]
    created: float
    expires: float | None = None


def find_token(connection: Connection, digest: str) -> Token | None:
    """The token with this digest, also one that has expired."""
    row = connection.execute(select(tokens).where(tokens.c.digest == indexed(digest))).mappings().first()
    return None if row is None else _token(dict(row))


def all_tokens(connection: Connection) -> list[Token]:
    """Every token, in order of names."""
    found = [_token(dict(row)) for row in connection.execute(select(tokens)).mappings()]
    return sorted(found, key=lambda token: token.name)


def add_token(
    connection: Connection, name: str, digest: str, scopes: Sequence[str], created: float, expires: float | None
) -> None:
    """Keep a token.

    :raises TokenExists: there is one of this name, or with this digest.
    """
    row: dict[str, object] = {
        "name": indexed(name),
        "digest": indexed(digest),
        "scopes": json.encode(list(scopes)).decode(),
        "created": created,
        "expires": expires,
    }
    if not _insert(connection, tokens, row):
        raise TokenExists(f"there is a token {name} already: choose another name, or remove that one first")


def remove_token(connection: Connection, name: str) -> bool:
    """Forget a token; False if there is none of this name."""
    return bool(connection.execute(delete(tokens).where(tokens.c.name == indexed(name))).rowcount)


def remember(connection: Connection, token: str, key: str, digest: str, command_id: str, now: float) -> str | None:
    """Keep which command a key stands for, or say which it was.

    :raises IdempotencyConflict: the key was kept with another digest.
    """
    place = {"token": indexed(token), "key": indexed(key)}
    if _insert(connection, idempotency, {**place, "digest": digest, "command_id": command_id, "created": now}):
        return None
    found = connection.execute(select(idempotency.c.digest, idempotency.c.command_id).filter_by(**place)).one()
    if found.digest != digest:
        raise IdempotencyConflict(
            f"the idempotency key {key} was used for another request: choose a new one for each request"
        )
    return str(found.command_id)


def _insert(connection: Connection, table: Table, row: dict[str, object]) -> bool:
    """Insert it where there is none like it; another hub may do the same meanwhile."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(row).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return connection.execute(statement).first() is not None


def _token(row: dict[str, object]) -> Token:
    return json.decode(json.encode({**row, "scopes": json.decode(str(row["scopes"]))}), type=Token)
