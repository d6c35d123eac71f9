import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.schema import ALL, InvalidName, Kind, Topic, Topics, check_name, is_name, to_name

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True).filter(lambda name: name != ALL)
PREFIXES = st.lists(NAMES, max_size=3).map("/".join)


@given(prefix=PREFIXES, device=NAMES, requester=st.none() | NAMES, name=NAMES)
def test_what_is_built_is_parsed_back(prefix: str, device: str, requester: str | None, name: str) -> None:
    topics = Topics(prefix)
    who = requester or "someone"
    assert topics.parse(topics.command(device, requester)) == Topic(Kind.CMD, device=device, requester=requester)
    assert topics.parse(topics.group(device, requester)) == Topic(Kind.CMD, group=device, requester=requester)
    assert topics.parse(topics.group(ALL, requester)) == Topic(Kind.CMD, group=ALL, requester=requester)
    assert topics.parse(topics.state(device)) == Topic(Kind.STATE, device=device)
    assert topics.parse(topics.about(device)) == Topic(Kind.ABOUT, device=device)
    assert topics.parse(topics.progress(device, who)) == Topic(Kind.PROGRESS, device=device, requester=who)
    assert topics.parse(topics.result(device, requester)) == Topic(Kind.RESULT, device=device, requester=requester)
    assert topics.parse(topics.event(device, name)) == Topic(Kind.EVENT, device=device, name=name)
    assert topics.parse(topics.member(name, device)) == Topic(Kind.POOL, device=device, pool=name)


@given(st.text())
def test_any_text_parses_or_is_none(text: str) -> None:
    parsed = Topics().parse(text)
    assert parsed is None or text.startswith(("devices/", "groups/", "pools/"))


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "devices",
        "devices//cmd",
        "devices/a b/cmd",
        "devices/all/cmd",
        "devices/lamp/cmd/all",
        "devices/lamp/cmd/a/b",
        "devices/lamp/progress",
        "groups/g/state",
        "devices/lamp/event",
        "devices/lamp\n/cmd",
        "devices/" + "x" * 65 + "/cmd",
        "other/devices/lamp/cmd",
        "pools/words",
        "pools/all/lamp",
        "pools/words/all",
        "pools/words/lamp/x",
    ],
)
def test_topic_that_is_not_of_the_protocol_is_none(topic: str) -> None:
    assert Topics().parse(topic) is None


def test_topic_of_another_prefix_is_none() -> None:
    assert Topics("site1").parse("site2/devices/lamp/cmd") is None
    assert Topics("site1").parse("devices/lamp/cmd") is None


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "+", "#", "x" * 65, "a\n", "all"])
def test_name_that_is_not_well_formed_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InvalidName, match="device id"):
        check_name(name, "device id")


@pytest.mark.parametrize("prefix", ["a//b", "a/+", "#", "ä"])
def test_prefix_that_is_not_well_formed_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidName, match="prefix"):
        Topics(prefix)


@given(st.text(min_size=1))
def test_nearest_name_is_well_formed(text: str) -> None:
    if text != ALL:
        assert is_name(to_name(text))


def test_nearest_name_replaces_other_characters() -> None:
    assert to_name("pi@lab.local") == "pi-lab-local"
