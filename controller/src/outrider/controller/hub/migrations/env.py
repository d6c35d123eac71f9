"""What Alembic runs for each upgrade: on the connection that `database.py` hands over, inside its transaction."""

from alembic import context

from outrider.controller.hub.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, version_table="hub_version")
context.run_migrations()
