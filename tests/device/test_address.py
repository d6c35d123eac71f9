import contextlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.device.address import Address
from outrider.schema.errors import InvalidAddress, LocalError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://localhost", Address("localhost", 1883)),
        ("mqtt://localhost/", Address("localhost", 1883)),
        ("mqtt://127.0.0.1:18830", Address("127.0.0.1", 18830)),
        ("MQTT://Broker.Example:1", Address("broker.example", 1)),
        ("mqtt://[::1]", Address("::1", 1883)),
        ("mqtt://[::1]:65535", Address("::1", 65535)),
        ("mqtt://alice@host", Address("host", 1883, user="alice")),
        ("mqtt://alice:secret@host", Address("host", 1883, user="alice", password="secret")),
        ("mqtt://alice:@host", Address("host", 1883, user="alice", password="")),
        ("mqtt://a%40b:p%3A%2F%23%20%25@host", Address("host", 1883, user="a@b", password="p:/# %")),
        ("mqtts://host", Address("host", 8883, tls=True)),
        ("mqtts://host:443?ca=/etc/ca.pem", Address("host", 443, tls=True, ca="/etc/ca.pem")),
        (
            "mqtts://host?ca=ca.pem&cert=c.pem&key=k.pem",
            Address("host", 8883, True, None, None, "ca.pem", "c.pem", "k.pem"),
        ),
        ("mqtts://host?cert=both.pem", Address("host", 8883, tls=True, cert="both.pem")),
        ("ws://host", Address("host", 80, kind="websocket", path="/mqtt")),
        ("ws://host/", Address("host", 80, kind="websocket", path="/")),
        ("WS://host:8083/a/b%20c", Address("host", 8083, kind="websocket", path="/a/b%20c")),
        ("ws://host/a b,c", Address("host", 80, kind="websocket", path="/a%20b,c")),
        ("wss://host", Address("host", 443, tls=True, kind="websocket", path="/mqtt")),
        (
            "wss://al:pw@host:1/x?ca=ca.pem",
            Address("host", 1, True, "al", "pw", "ca.pem", kind="websocket", path="/x"),
        ),
        ("unix:///run/mosquitto.sock", Address("", 0, kind="unix", path="/run/mosquitto.sock")),
        ("unix:///run/a%20b@1.sock", Address("", 0, kind="unix", path="/run/a b@1.sock")),
        ("unix://al:p%2Fw@/run/m", Address("", 0, user="al", password="p/w", kind="unix", path="/run/m")),
        ("mqtt://one,two:1884,[::1]:1885", Address("one", 1883, more=(("two", 1884), ("::1", 1885)))),
        ("mqtts://al:p,w@one,two?ca=c", Address("one", 8883, True, "al", "p,w", "c", more=(("two", 8883),))),
        ("mqtt://host?keepalive=120", Address("host", 1883, keepalive=120)),
        (
            "wss://host?keepalive=5&ca=c",
            Address("host", 443, True, ca="c", kind="websocket", path="/mqtt", keepalive=5),
        ),
        ("unix:///run/m?keepalive=65535", Address("", 0, kind="unix", path="/run/m", keepalive=65535)),
        ("ws://one,two:81/x", Address("one", 80, kind="websocket", path="/x", more=(("two", 81),))),
    ],
)
def test_url_is_parsed(url: str, expected: Address) -> None:
    assert Address.parse(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:1883", "did you mean mqtt://localhost:1883?"),
        ("localhost", "did you mean mqtt://localhost?"),
        ("", "not a broker's URL"),
        ("http://host", "http:// is not spoken here"),
        ("tcp://host:1883", "Did you mean mqtt://host:1883?"),
        ("ssl://host", "Did you mean mqtts://host?"),
        ("mqtt://", "names no host"),
        ("mqtt://:1883", "names no host"),
        ("mqtt://host:0", "not a number from 1 to 65535"),
        ("mqtt://host:65536", "not a number from 1 to 65535"),
        ("mqtt://host:abc", "not a number from 1 to 65535"),
        ("mqtt://[::1", "not a URL"),
        ("mqtt://host/path", "nothing but options"),
        ("mqtt://host#x", "# cannot stand in a broker's URL"),
        (f"mqtt://{'a' * 64}.example", "is not a host's name"),
        ("mqtt://a..b", "'a..b' is not a host's name"),
        ("mqtt://ho st", "'ho st' is not a host's name"),
        ("mqtt://[nonsense]", "[nonsense] is not an IPv6 address"),
        ("http://host/x", "Did you mean ws://host/x?"),
        ("https://host", "Did you mean wss://host?"),
        ("mqtt://one,two:x,three", "The port after 'two' (host 2 of 3) is not a number"),
        ("mqtt://one,,three", "host 2 of 3 is empty"),
        ("mqtt://one,", "host 2 of 2 is empty"),
        ("mqtt://one,mqtt://two", "the scheme stands once"),
        ("ws://one/mqtt,ws://two/mqtt", "the scheme stands once"),
        ("mqtt://al:one@a,bo:two@b", "user and password stand once"),
        ("ws://host?ca=x", "begins with wss://"),
        ("ws://host/x#y", "# cannot stand in a broker's URL"),
        ("unix://", "names no socket"),
        ("unix:///", "names no socket"),
        ("unix://run/m.sock", "Did you mean unix:///run/m.sock?"),
        ("unix:/run/m.sock", "did you mean unix:///run/m.sock?"),
        ("/run/m.sock", "did you mean unix:///run/m.sock?"),
        ("unix:///run/m.sock?ca=x", "begins with mqtts:// or wss://"),
        ("mqtt://:secret@host", "a password and no user name"),
        ("mqtt://host?ca=x", "need TLS"),
        ("mqtts://host?cafile=x", "unknown option cafile"),
        ("mqtts://host?ca=", "ca names no file"),
        ("mqtts://host?ca", "not NAME=VALUE"),
        ("mqtts://host?key=k.pem", "a key needs its certificate"),
        ("mqtt://host?keepalive=4", "keepalive is a number of seconds, 5 to 65535"),
        ("mqtt://host?keepalive=65536", "keepalive is a number of seconds"),
        ("mqtt://host?keepalive=2m", "keepalive is a number of seconds"),
        ("mqtt://host?keepalive=", "keepalive is a number of seconds"),
    ],
)
def test_bad_url_is_refused_with_what_is_wrong(url: str, says: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        Address.parse(url)
    assert says in str(caught.value)
    assert "://" in str(caught.value)
    assert isinstance(caught.value, LocalError)


@pytest.mark.parametrize(
    "url",
    [
        "user:secret@host",
        "http://user:secret@host",
        "mqtt://user:secret@host:x",
        "mqtt://user:secret@host/path",
        "mqtt://user:sec#ret@host",
        "mqtt://user:1/secret@host",
        "mqtt://user:secret/@host:1883",
        "mqtt://user:12#secret@host",
        "mqtt://:secret@host",
        "mqtt://user:secret@[::1",
        "mqtt://user:sec://ret@host",
        "user:sec://ret@host",
        "ws://user:1/secret@host",
        "ws://user:1?sec=ret@host",
        "wss://user:secret@host/x#y",
        "mqtt://user:secret@one,two:x",
        "mqtt://user:1,secret@one,:2",
        "mqtt://user:sec@one,other:ret@two",
        "mqtt://user:secret",
        "unix://user:secret@run/m.sock",
        "unix://user:sec/ret@/run/m.sock",
    ],
)
def test_error_never_shows_the_password(url: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        Address.parse(url)
    assert "ret" not in str(caught.value).replace("write", "")


def test_text_never_shows_the_password() -> None:
    address = Address.parse("mqtts://al%40ice:secret@[::1]:99?ca=/a/ca.pem&cert=c.pem")
    assert str(address) == "mqtts://al%40ice@[::1]:99?ca=/a/ca.pem&cert=c.pem"
    assert "secret" not in repr(address)
    assert "secret" not in f"{address}"


@pytest.mark.parametrize(
    "url",
    [
        "mqtts://alice@host:99?ca=ca.pem&cert=c.pem&key=k.pem",
        "wss://alice@host:99/a%20b?ca=ca.pem",
        "unix://alice@/run/a%20b%401.sock",
        "mqtt://alice@one:1,[::1]:2",
        "mqtt://alice@one:1,[::1]:2?keepalive=90",
        "unix:///run/m.sock?keepalive=90",
    ],
)
def test_text_without_password_is_read_back(url: str) -> None:
    address = Address.parse(url)
    assert str(address) == url
    assert Address.parse(str(address)) == address


def test_several_hosts_are_one_address_each() -> None:
    address = Address.parse("wss://al:pw@one:1,two:2/x?ca=ca.pem")
    assert address.each == (
        Address.parse("wss://al:pw@one:1/x?ca=ca.pem"),
        Address.parse("wss://al:pw@two:2/x?ca=ca.pem"),
    )
    assert [each.place for each in (address, *address.each)] == ["one:1,two:2", "one:1", "two:2"]
    assert address.each[0].each == (address.each[0],)


@given(st.text())
def test_any_text_is_an_address_or_refused_as_one(text: str) -> None:
    with contextlib.suppress(InvalidAddress):
        address = Address.parse(text)
        assert Address.parse(str(address)).place == address.place


@given(st.sampled_from(["mqtt", "mqtts", "ws", "wss", "unix"]), st.text(alphabet="aé:/?#@,%[] 1", min_size=1))
def test_escaped_password_is_read_back_and_never_shown(scheme: str, password: str) -> None:
    place = "/run/m.sock" if scheme == "unix" else "host:1,other:2"
    address = Address.parse(f"{scheme}://al:{quote('~~' + password, safe='')}@{place}")
    assert (address.user, address.password) == ("al", "~~" + password)
    assert "~~" not in f"{address} {address!r}"
