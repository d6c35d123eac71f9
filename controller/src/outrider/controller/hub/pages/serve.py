"""Serves the page: one HTML document, and its scripts and styles under an address that changes with their content.

All of it is read once and held in memory, so no path that a client asks for ever reaches the file system.
"""

import gzip
import mimetypes
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.enums import MediaType
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

HERE: Final = Path(__file__).parent
WEB: Final = HERE / "web"
VENDOR: Final = HERE / "vendor"
"""What `make assets` fetches; a wheel brings it along."""

SMALL: Final = 1000
"""Bytes below which compression gains nothing."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Where a browser knows of it, nothing can make markup or script of a text, by mistake either.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The page takes everything from its own origin, and runs no script that stands in a document."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

OPEN: Final = {"exclude_from_auth": True}

MISSING: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>outrider</title>
<h1>The page's libraries are missing</h1>
<p>They are fetched when an environment is made. In the checkout that this hub runs from, say <code>make assets</code>
and start the hub again. Everything but the page works without them.</p>
"""


class File(Struct, frozen=True):
    """A file as it is sent."""

    content: bytes
    compressed: bytes
    media_type: str


class Site(Struct, frozen=True):
    """All that is served: the document, and its files by their paths.

    :ivar version: stands in the address of each file, so that a browser may keep it for good.
    """

    document: bytes
    files: dict[str, File]
    version: str


@cache
def read() -> Site | None:
    """Read the page; None where its libraries have not been fetched."""
    if not (VENDOR / "preact.js").exists():
        return None
    found = {path.relative_to(WEB).as_posix(): path for path in WEB.rglob("*") if path.is_file()}
    found |= {f"vendor/{path.relative_to(VENDOR).as_posix()}": path for path in VENDOR.rglob("*") if path.is_file()}
    document = found.pop("index.html").read_bytes()
    files = {name: _file(path) for name, path in sorted(found.items())}
    digest = sha256(document)
    for name, file in files.items():
        digest.update(name.encode() + b"\0" + file.content)
    version = digest.hexdigest()[:16]
    return Site(document.replace(b"{version}", version.encode()), files, version)


def _file(path: Path) -> File:
    content = path.read_bytes()
    guessed = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0] or "text/plain"
    compressed = gzip.compress(content, mtime=0) if len(content) > SMALL else b""
    return File(content, compressed, guessed)


@get("/", include_in_schema=False, sync_to_thread=False, opt=OPEN)
def document() -> Response[bytes]:
    """Return the page; a browser asks for it each time, so that it never runs an old hub's scripts."""
    site = read()
    if site is None:
        return Response(MISSING.encode(), status_code=503, media_type=MediaType.HTML, headers=HEADERS)
    return Response(site.document, media_type=MediaType.HTML, headers=HEADERS | {"Cache-Control": "no-cache"})


@get("/assets/{version:str}/{name:path}", include_in_schema=False, sync_to_thread=False, opt=OPEN)
def asset(request: Request[object, object, State], version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Return one of the page's files."""
    site = read()
    file = site.files.get(name.removeprefix("/")) if site is not None and version == site.version else None
    if file is None:
        raise NotFoundException
    headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if file.compressed and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, media_type=file.media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(file.content, media_type=file.media_type, headers=headers)


def routes() -> list[HTTPRouteHandler]:
    """Return the routes of the page: `/` and what it loads. They need no token, for they say nothing of the fleet."""
    return [document, asset]
