"""First tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "commands",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("behalf", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("args", sa.Text(), nullable=True),
        sa.Column("issued", sa.Double, nullable=True),
        sa.Column("expires", sa.Double, nullable=True),
        sa.Column("timeout", sa.Double, nullable=True),
        sa.Column("trace", sa.Text(), nullable=True),
        sa.Column("received", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("commands_behalf", "commands", ["behalf", "seq"], unique=False)
    op.create_index("commands_command", "commands", ["command", "seq"], unique=False)
    op.create_index("commands_device", "commands", ["device", "seq"], unique=False)
    op.create_index(
        "commands_key",
        "commands",
        ["id", "requester", "behalf", "device", "group_name"],
        unique=True,
        sqlite_where=sa.text("id <> ''"),
        postgresql_where=sa.text("id <> ''"),
    )
    op.create_index("commands_requester", "commands", ["requester", "seq"], unique=False)
    op.create_table(
        "counter",
        sa.Column("one", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one"),
    )
    op.create_table(
        "event_counts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("keyed", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("earliest", sa.Double, nullable=False),
        sa.Column("latest", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", "keyed", "key", "level", "bucket"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event_followups",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("followup", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "key", "level", "bucket", "followup"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("keyed", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "keyed", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("received", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("device", "id", name="events_key"),
    )
    op.create_index(
        "events_subject",
        "events",
        ["subject", "key"],
        unique=False,
        sqlite_where=sa.text("subject IS NOT NULL"),
        postgresql_where=sa.text("subject IS NOT NULL"),
    )
    op.create_index("events_time", "events", ["name", "key", "time"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("command_id", sa.Text(), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("token", "key"),
    )
    op.create_index("idempotency_created", "idempotency", ["created"], unique=False)
    op.create_table(
        "progress",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.SmallInteger(), nullable=False),
        sa.Column("fraction", sa.Double, nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("stream", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("received", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id", "requester", "device", "number", name="progress_key"),
    )
    op.create_table(
        "reopened",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("subject", "name", "key", "time"),
        sqlite_with_rowid=False,
    )
    op.create_index("reopened_time", "reopened", ["name", "key", "time", "subject"], unique=False)
    op.create_table(
        "reopened_followups",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "results",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started", sa.Double, nullable=True),
        sa.Column("finished", sa.Double, nullable=True),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("behalf", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id", "requester", "device", name="results_key"),
    )
    op.create_index("results_behalf", "results", ["behalf", "seq"], unique=False)
    op.create_index("results_device", "results", ["device", "seq"], unique=False)
    op.create_index("results_requester", "results", ["requester", "seq"], unique=False)
    op.create_index("results_status", "results", ["status", "seq"], unique=False)
    op.create_table(
        "states",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("pools", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("received", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("device", "session", "status", "since", name="states_key"),
    )
    op.create_index("states_device", "states", ["device", "seq"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("digest"),
    )
    op.execute("INSERT INTO counter (one, last) VALUES (1, 0)")
