"""No storage: what the service takes without one, the upper bound on speed."""

from datetime import datetime
from uuid import UUID

from .storage import Summary


class NullStorage:
    async def log_initial(self, uuid: UUID, symbol: str, at: datetime) -> None:
        pass

    async def log_followup(self, uuid: UUID, at: datetime) -> None:
        pass

    async def symbol(self, symbol: str) -> Summary:
        return Summary(0, symbol)

    async def range(self, lower: datetime, upper: datetime) -> list[Summary]:
        return []
