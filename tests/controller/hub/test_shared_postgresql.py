"""Several hubs on one PostgreSQL: each records everything it hears, and the counts stay exact."""

import asyncio
import sys
from pathlib import Path

from outrider.controller.hub.records import EventQuery
from outrider.controller.hub.store import Store
from tests.controller.hub.postgresql import Server

HUB = """
import random
import sys

from outrider.controller.hub.records import EventRecord, ResultRecord
from outrider.controller.hub.store import Store
from outrider.schema import Status

url, seed = sys.argv[1], int(sys.argv[2])
order = random.Random(seed)
events = [
    EventRecord(
        id=str(number),
        device=f"lamp-{number % 3}",
        name="initial" if number % 2 else "ack",
        key=f"k{number % 5}" if number % 2 else None,
        subject=f"s{number // 4 % 300}",
        time=number * 7.25,
        received=0.0,
    )
    for number in range(3000)
]
with Store.open(url) as store:
    print("open", flush=True)
    sys.stdin.readline()
    new = 0
    while events:
        size = min(len(events), order.randint(1, 200))
        batch = [events.pop(order.randrange(min(len(events), 400))) for _ in range(size)]
        new += store.write([*batch, ResultRecord(
            id=str(len(events)), device="lamp-1", command="dim", status=Status.DONE, received=0.0
        )])
    print(new)
"""


async def test_hubs_that_write_the_same_at_once_keep_each_record_and_count_it_once(
    postgresql: Server, tmp_path: Path
) -> None:
    (tmp_path / "hub.py").write_text(HUB)
    url = postgresql.create()
    pipe = asyncio.subprocess.PIPE
    hubs = [
        await asyncio.create_subprocess_exec(
            sys.executable, tmp_path / "hub.py", url, str(seed), stdin=pipe, stdout=pipe
        )
        for seed in range(3)
    ]
    new = 0
    async with asyncio.timeout(50):
        for hub in hubs:
            assert hub.stdout is not None
            assert await hub.stdout.readline() == b"open\n"
        for written, _ in await asyncio.gather(*(hub.communicate(b"go\n") for hub in hubs)):
            new += int(written)
    assert [hub.returncode for hub in hubs] == [0, 0, 0]
    with Store.open(url) as store, Store.open(url) as alone:
        rows = store.events(EventQuery(limit=5000)).items
        assert len({(row.device, row.id) for row in rows}) == len(rows) == 3000
        assert new == 3000 + len(list(store.export(["result"])))
        # The same rows, written one after another by one hub under other names.
        alone.write(
            [
                type(row)(
                    id=f"alone-{row.id}",
                    device=row.device,
                    name=f"alone-{row.name}",
                    key=row.key,
                    subject=f"alone-{row.subject}",
                    time=row.time,
                    received=0.0,
                )
                for row in rows
            ]
        )
        for ends in ((None, None), (100.5, 9000.25)):
            together = store.summary("initial", since=ends[0], until=ends[1])
            one_by_one = alone.summary("alone-initial", since=ends[0], until=ends[1])
            assert [(each.key, each.count, each.earliest, each.latest) for each in together] == [
                (each.key, each.count, each.earliest, each.latest) for each in one_by_one
            ]
            assert [each.followups.get("ack") for each in together] == [
                each.followups.get("alone-ack") for each in one_by_one
            ]
    postgresql.drop(url)
