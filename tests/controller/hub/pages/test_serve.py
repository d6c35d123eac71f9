"""What the page is served with: its policy, how long it may be kept, and nothing that is not its own."""

import gzip
import re

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from outrider.controller.hub.pages import serve

pytestmark = pytest.mark.skipif(not serve.VENDOR.exists(), reason="the page's libraries are missing: make assets")


@pytest.fixture
def client() -> TestClient[Litestar]:
    return TestClient(Litestar(serve.routes(), openapi_config=None))


def scripts(document: str) -> str:
    found = re.search(r'src="(assets/[^"]*/)main\.js"', document)
    assert found is not None
    return "/" + found[1]


def test_document_is_asked_for_each_time_and_runs_nothing_of_its_own(client: TestClient[Litestar]) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=|https?:", answer.text)


def test_each_file_that_a_script_names_is_there_and_may_be_kept(client: TestClient[Litestar]) -> None:
    folder = scripts(client.get("/").text)
    seen: set[str] = set()
    waiting = {f"{folder}main.js", f"{folder}page.css", f"{folder}icon.svg", f"{folder}vendor/uplot.css"}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith(("text/javascript", "text/css", "image/svg+xml"))
        if path.endswith(".js"):
            named = re.findall(r"""(?:\bfrom|\bimport)\s*["']([^"'\s]+)["']""", answer.text)
            assert all(name.startswith("./") for name in named), (path, named)
            base = path.rpartition("/")[0]
            waiting |= {f"{base}/{name.removeprefix('./')}" for name in named} - seen
    assert len(seen) > 30


def test_script_never_makes_markup_of_text() -> None:
    for file in serve.WEB.rglob("*.js"):
        text = file.read_text()
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in text, f"{way} in {file.name}"


@pytest.mark.parametrize("name", ["nothing.js", "../serve.py", "%2e%2e/serve.py", "..%2fserve.py", "vendor/", ""])
def test_what_is_not_the_pages_is_not_found(client: TestClient[Litestar], name: str) -> None:
    assert client.get(scripts(client.get("/").text) + name).status_code == 404


def test_address_of_another_version_is_not_found(client: TestClient[Litestar]) -> None:
    assert client.get("/assets/0123456789abcdef/main.js").status_code == 404


def test_file_is_compressed_only_for_who_takes_it(client: TestClient[Litestar]) -> None:
    path = scripts(client.get("/").text) + "main.js"
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    site = serve.read()
    assert site is not None
    assert gzip.decompress(site.files["main.js"].compressed) == plain.content


def test_missing_libraries_are_said(client: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "read", lambda: None)
    answer = client.get("/")
    assert answer.status_code == 503
    assert "make assets" in answer.text
