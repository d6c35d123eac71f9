import pytest

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
        ("mqtt://host#x", "nothing but options"),
        ("mqtt://:secret@host", "a password and no user name"),
        ("mqtt://host?ca=x", "need TLS"),
        ("mqtts://host?cafile=x", "unknown option cafile"),
        ("mqtts://host?ca=", "ca names no file"),
        ("mqtts://host?ca", "not NAME=FILE"),
        ("mqtts://host?key=k.pem", "a key needs its certificate"),
    ],
)
def test_bad_url_is_refused_with_what_is_wrong(url: str, says: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        Address.parse(url)
    assert says in str(caught.value)
    assert "mqtt" in str(caught.value)
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


def test_text_without_password_is_read_back() -> None:
    address = Address.parse("mqtts://alice@host:99?ca=ca.pem&cert=c.pem&key=k.pem")
    assert Address.parse(str(address)) == address
