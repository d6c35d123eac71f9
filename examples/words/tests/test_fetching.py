"""Fetching from servers that mean no good."""

import asyncio
import contextlib
import gzip
import socket
import ssl
from ipaddress import ip_address

import pytest
import trustme
from words import fetching
from words.fetching import Address, CannotFetch, check_url, decoded, fetch, is_public

from tests.site import Site

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::", "2001:db8::1",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


class Names:
    """Names as a resolver of somebody else's would have them: each question gets the next answer."""

    def __init__(self, **answers: list[str]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def __call__(self, name: str, port: int) -> list[Address]:
        self.asked.append(name)
        answers = self._answers.get(name.partition(".")[0])
        if not answers:
            return [ip_address(name)]
        return [ip_address(each) for each in (answers.pop(0) if len(answers) > 1 else answers[0]).split()]


@pytest.fixture
def ours_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test's own server pass for a public one, and nothing else of this machine."""

    def judged(address: Address) -> bool:
        return str(address) == "127.0.0.1"

    monkeypatch.setattr(fetching, "is_public", judged)


@pytest.mark.parametrize("address", PRIVATE)
def test_address_of_a_special_use_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "a", "ftp://a/", "file:///etc/passwd", "http:///a", "http://a:99999/", "http://[/", "http://exa mple.com/",
        "http://<x>/", "http://a..b/", "http://.", "http://.a/", "http://%41%20b/", f"http://{'a' * 70}.example/",
        f"http://{'ä' * 70}.example/", f"http://{'a.' * 127}b/", "http://xn--/", "http://☃.net/",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_page_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "a", "a.example", "A.EXAMPLE.", "a_b.c-d.example", "bücher.example", "言葉.example", "8.8.8.8", "2130706433",
        "[2606:4700::1111]", "user:password@a.example:8080", "a" * 63, f"{'a.' * 126}b",
    ],
)  # fmt: skip
def test_url_with_an_address_or_a_name_is_one_of_a_page(host: str) -> None:
    assert check_url(f"https://{host}/a").path == "/a"


async def test_page_comes_with_its_text(site: Site) -> None:
    assert await fetch(site.add("/a", "<p>é"), private=True) == ("<p>é", True)
    assert await fetch(site.add("/b", "é", Content_Type="text/plain"), private=True) == ("é", False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433"])
async def test_private_address_gets_no_request(site: Site, host: str) -> None:
    site.add("/a", "secret")
    with pytest.raises(CannotFetch, match="no public address"):
        await fetch(f"http://{host}:{site.port}/a")
    assert not site.hits


@pytest.mark.usefixtures("ours_is_public")
@pytest.mark.parametrize("to", ["http://127.0.0.2:{}/b", "http://inside.example:{}/b", "//127.0.0.2:{}/b"])
async def test_redirect_to_a_private_address_is_refused(site: Site, to: str) -> None:
    site.add("/b", "secret")
    url = site.add("/a", status=302, Location=to.format(site.port))
    with pytest.raises(CannotFetch, match=r"is at 127\.0\.0\.2, which is no public address"):
        await fetch(url, resolve=Names(inside=["127.0.0.2"]))
    assert set(site.hits) == {"/a"}


@pytest.mark.usefixtures("ours_is_public")
async def test_connection_goes_to_the_address_that_was_judged(site: Site) -> None:
    site.add("/a", "fine")
    names = Names(rebinding=["127.0.0.1", "127.0.0.2"])  # which no resolver of this machine knows
    assert (await fetch(f"http://rebinding.example:{site.port}/a", resolve=names)).text == "fine"
    assert (names.asked, site.hosts) == (["rebinding.example"], [f"rebinding.example:{site.port}"])


@pytest.mark.usefixtures("ours_is_public")
async def test_name_is_judged_anew_after_a_redirect_to_itself(site: Site) -> None:
    site.add("/a", status=302, Location="/b")
    site.add("/b", "secret")
    names = Names(rebinding=["127.0.0.1", "127.0.0.2"])
    with pytest.raises(CannotFetch, match="no public address"):
        await fetch(f"http://rebinding.example:{site.port}/a", resolve=names)
    assert set(site.hits) == {"/a"}


@pytest.mark.usefixtures("ours_is_public")
async def test_name_with_one_private_address_is_refused(site: Site) -> None:
    site.add("/a", "secret")
    with pytest.raises(CannotFetch, match="no public address"):
        await fetch(f"http://both.example:{site.port}/a", resolve=Names(both=["127.0.0.1 127.0.0.2"]))
    assert not site.hits


async def test_next_address_is_tried_where_one_does_not_answer(site: Site) -> None:
    site.add("/a", "fine")
    names = Names(both=["::1 127.0.0.1"])
    assert (await fetch(f"http://both.example:{site.port}/a", private=True, resolve=names)).text == "fine"


async def test_certificate_is_held_to_the_name_and_not_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)  # pyright: ignore[reportUnknownMemberType] - OpenSSL's types are optional
    monkeypatch.setattr(fetching, "_CONTEXT", trusting)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("page.example").configure_cert(serving)  # pyright: ignore[reportUnknownMemberType]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: text/plain\r\n\r\nfine")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    names = Names(page=["127.0.0.1"], other=["127.0.0.1"])
    assert (await fetch(f"https://page.example:{port}/", private=True, resolve=names)).text == "fine"
    with pytest.raises(CannotFetch, match="certificate"):
        await fetch(f"https://other.example:{port}/", private=True, resolve=names)
    server.close()
    await server.wait_closed()


async def test_page_that_is_too_large_is_refused_also_when_packed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SIZE", 100_000)
    large = b"x" * 100_001
    urls = [site.add("/a", large), site.add("/b", gzip.compress(large), Content_Encoding="gzip")]
    for url in urls:
        with pytest.raises(CannotFetch, match="more than 100,000 bytes"):
            await fetch(url, private=True)
    assert len((await fetch(site.add("/c", large[1:]), private=True)).text) == 100_000


async def test_page_that_takes_too_long_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "WITHIN", 0.2)
    with pytest.raises(CannotFetch, match=r"longer than 0\.2 s|ReadTimeout"):
        await fetch(site.add("/a", held=True), private=True)


async def test_page_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "WITHIN", 0.3)
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nContent-Type: text/plain\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(50):  # a second or more, and never a long wait
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        gone.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CannotFetch, match=r"took longer than 0\.3 s"):
            await fetch(f"http://127.0.0.1:{port}/", private=True)
        await gone.wait()


async def test_redirects_are_followed_five_times(site: Site) -> None:
    for number in range(6):
        site.add(f"/{number}", status=301, Location=f"/{number + 1}")
    last = site.add("/6", "there")
    assert (await fetch(last.replace("/6", "/1"), private=True)).text == "there"
    with pytest.raises(CannotFetch, match="more than 5 times"):
        await fetch(last.replace("/6", "/0"), private=True)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://"])
async def test_redirect_to_another_scheme_is_refused(site: Site, to: str) -> None:
    with pytest.raises(CannotFetch):
        await fetch(site.add("/a", status=302, Location=to), private=True)


async def test_what_is_no_page_is_refused(site: Site) -> None:
    with pytest.raises(CannotFetch, match="404 Not Found"):
        await fetch(f"http://127.0.0.1:{site.port}/missing", private=True)
    with pytest.raises(CannotFetch, match="image/png, and no page"):
        await fetch(site.add("/a", b"\x89PNG", Content_Type="image/png"), private=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(CannotFetch, match="connect"):
        await fetch(f"http://127.0.0.1:{port}/", private=True)
    with pytest.raises(CannotFetch, match=r"nowhere\.invalid cannot be found"):
        await fetch("http://nowhere.invalid/", private=True)


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("é".encode(), None, "é"),
        ("é".encode("cp1252"), "iso-8859-1", "é"),
        (b"\x93", "latin-1", "“"),
        ("é".encode("utf-16"), "utf-8", "é"),
        ("\ufeffé".encode(), "latin-1", "é"),
        (b'<meta charset="koi8-r">\xc1', None, '<meta charset="koi8-r">\u0430'),
        (b'<meta http-equiv=x content="text/html; charset=koi8-r">\xc1', "nonsense", None),
        (b"a\xff", "rot13", "a\ufffd"),
    ],
)  # fmt: skip
def test_body_is_read_in_its_encoding(body: bytes, charset: str | None, text: str | None) -> None:
    assert decoded(body, charset) == (text if text is not None else body[:-1].decode() + "\u0430")
