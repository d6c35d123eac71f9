import asyncio

from msgspec import json

from outrider.controller import Roster
from outrider.schema import About, Kind, State, Topic

LAMP_STATE = Topic(Kind.STATE, device="lamp-1")
LAMP_ABOUT = Topic(Kind.ABOUT, device="lamp-1")


def state(status: str = "ready", session: int = 1, about: str = "a", device: str = "lamp-1") -> bytes:
    return json.encode(
        {"device": device, "status": status, "session": session, "since": 0.0, "about": about, "groups": []}
    )


def told(name: str) -> bytes:
    return json.encode(About(versions={"name": name}, commands={}))


def test_a_state_is_kept() -> None:
    roster = Roster()
    roster.receive(LAMP_STATE, state())
    assert roster.states["lamp-1"].status == "ready"


def test_a_later_state_of_the_same_session_replaces_it() -> None:
    roster = Roster()
    roster.receive(LAMP_STATE, state("unready"))
    roster.receive(LAMP_STATE, state("ready"))
    assert roster.states["lamp-1"].status == "ready"


def test_a_higher_session_is_believed_also_when_it_says_lost() -> None:
    roster = Roster()
    roster.receive(LAMP_STATE, state("ready", 1))
    roster.receive(LAMP_STATE, state("lost", 2))
    assert roster.states["lamp-1"].status == "lost"


def test_a_late_will_of_an_older_session_changes_nothing() -> None:
    roster = Roster()
    seen: list[State] = []
    roster.receive(LAMP_STATE, state("ready", 2))
    with roster.watch(seen.append):
        roster.receive(LAMP_STATE, state("lost", 1))
    assert roster.states["lamp-1"].status == "ready"
    assert seen == []


def test_an_empty_state_forgets_the_device() -> None:
    roster = Roster()
    roster.receive(LAMP_STATE, state(session=5))
    roster.receive(LAMP_STATE, b"")
    assert roster.states == {}
    roster.receive(LAMP_STATE, state(session=1))
    assert roster.states["lamp-1"].session == 1


def test_a_state_that_cannot_be_read_is_ignored() -> None:
    roster = Roster()
    for payload in (b"{", b"null", b"[" * 10_000, b"{" * 10_000, state("dancing"), b"\xff"):
        roster.receive(LAMP_STATE, payload)
    assert roster.states == {}


def test_a_state_under_another_devices_topic_is_ignored() -> None:
    roster = Roster()
    roster.receive(LAMP_STATE, state(device="lamp-2"))
    assert roster.states == {}


def test_a_watcher_hears_of_each_state_while_it_watches() -> None:
    roster = Roster()
    seen: list[str] = []
    with roster.watch(lambda state: seen.append(state.status)):
        roster.receive(LAMP_STATE, state("unready"))
        roster.receive(LAMP_STATE, state("ready"))
    roster.receive(LAMP_STATE, state("unready"))
    assert seen == ["unready", "ready"]


async def test_all_who_await_an_about_get_it() -> None:
    roster = Roster()
    first, second = roster.await_about("lamp-1"), roster.await_about("lamp-1")
    first.cancel()
    roster.receive(LAMP_ABOUT, told("one"))
    async with asyncio.timeout(1):
        assert (await second).versions == {"name": "one"}
    assert roster.about("lamp-1") == await second


async def test_an_about_that_cannot_be_read_is_waited_for_further() -> None:
    roster = Roster()
    coming = roster.await_about("lamp-1")
    roster.receive(LAMP_ABOUT, b"[]")
    assert not coming.done()
    assert roster.about("lamp-1") is None


def test_an_about_is_forgotten_when_the_state_names_another_digest() -> None:
    roster = Roster()
    roster.receive(LAMP_STATE, state(about="a"))
    roster.receive(LAMP_ABOUT, told("one"))
    roster.receive(LAMP_STATE, state(about="a"))
    assert roster.about("lamp-1") is not None
    roster.receive(LAMP_STATE, state(about="b"))
    assert roster.about("lamp-1") is None
