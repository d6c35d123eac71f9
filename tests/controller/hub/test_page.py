"""What docs/hub-store.md shows runs, on the database that it is for."""

import re
from pathlib import Path

import pytest
from msgspec import Raw

from outrider.controller.hub.store import Store
from outrider.controller.hub.tables import metadata
from tests.controller.hub.made import event

PAGE = (Path(__file__).parents[3] / "docs" / "hub-store.md").read_text()
BLOCKS = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
QUESTIONS = [question for block in BLOCKS for question in block.split("\n\n")]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.splitlines()[0])
def test_question_of_the_page_is_answered(store: Store, question: str) -> None:
    held = store._database  # pyright: ignore[reportPrivateUsage]
    first, _, sql = question.partition("\n")
    if not first.startswith(("-- Both", "-- SQLite" if held.sqlite else "-- PostgreSQL")):
        return
    store.write(
        [
            event("temperature", 4e9, data=Raw(b'{"celsius": 20}')),
            event("temperature", 4e9 + 1, data=Raw(b'{"celsius": 22.5}')),
            event("initial", 10.0, key="e", subject="s"),
            event("ack", 12.5, subject="s"),
        ]
    )
    with held.reading() as connection:
        rows = [tuple(row) for row in connection.exec_driver_sql(sql)]
    if "initial" in sql:
        assert rows == [("e", "s", 2.5)]
    else:
        assert [(row[0], row[2], row[3]) for row in rows] == [("lamp-1", 21.25, 2)]


def test_page_names_every_table() -> None:
    section = PAGE.split("## Tables", 1)[1].split("## ", 1)[0]
    named = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall("`(.*?)`", line.split("|")[1])
    }
    assert named == {*metadata.tables, "hub_version"}
