"""The page: a document with a script and a style, read once. It says nothing of the data, so everybody may have it."""

from pathlib import Path
from typing import Final

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler

WEB: Final = Path(__file__).parent / "web"

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _file(path: str, name: str, media_type: str) -> HTTPRouteHandler:
    content = (WEB / name).read_bytes()

    @get(path, name=f"vowels {name}", include_in_schema=False, opt={"exclude_from_auth": True}, sync_to_thread=False)
    def file() -> Response[bytes]:
        return Response(content, media_type=media_type, headers=HEADERS)

    return file


PAGE: Final = [
    _file("/vowels", "page.html", MediaType.HTML),
    _file("/vowels/page.js", "page.js", "text/javascript"),
    _file("/vowels/page.css", "page.css", MediaType.CSS),
]
