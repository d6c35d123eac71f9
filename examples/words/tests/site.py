"""A web server for tests: pages by path, some of which wait until they are let go."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What a path answers."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})
    open: threading.Event = field(default_factory=threading.Event)


class Site:
    """The server; `pages` may be changed while it runs, `hits` counts requests."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.hits: Counter[str] = Counter()
        self.hosts: list[str] = []
        self.missing = Page(b"no such page", 404)
        self.missing.open.set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.hits[self.path] += 1
                site.hosts.append(self.headers["Host"])
                page = site.pages.get(self.path) or site.missing
                page.open.wait(60)
                self.send_response(page.status)
                for name, value in page.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(page.body)))
                self.end_headers()
                try:
                    self.wfile.write(page.body)
                except OSError:  # who asked has gone
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port: int = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add(self, path: str, text: str | bytes = b"", status: int = 200, *, held: bool = False, **headers: str) -> str:
        """Serve a page, and return its URL. One that is `held` waits for its `open`."""
        page = Page(text.encode() if isinstance(text, str) else text, status)
        page.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        if not held:
            page.open.set()
        self.pages[path] = page
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        for page in self.pages.values():
            page.open.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
