"""The viewer: a read-only web server on this machine that shows a run folder, however many records it has.

Addresses are those of two pages and of what the second asks for, never paths of files. It answers to this
machine's own names alone, so that a site whose name was made to lead here (DNS rebinding) learns nothing.
"""

import json
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from solon.errors import SolonError
from solon.report import html
from solon.report.index import Index, Wanted, inside
from solon.store.run_folder import read

HOST = "127.0.0.1"
NAMES = {HOST, "localhost"}
CLOSED = "default-src 'none'"
FIXED = {  # headers of every answer
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Response(NamedTuple):
    status: HTTPStatus
    text: str
    kind: str = "text/plain"
    policy: str = CLOSED


class Viewer(ThreadingHTTPServer):
    """Serves the run folder until it is shut down; ``port`` 0 is any free one.

    Raises:
        SolonError: the folder is no run folder, its records do not fit, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.index = Index(folder)
        self._report = html.Page("", "")
        self._drawn: list[Any] = []
        self._drawing = Lock()
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            mend = "give another with --port, or 0 for any free one"
            raise SolonError(f"port {port} cannot be had ({error.strerror}); {mend}") from None

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def report(self) -> html.Page:
        """The report, drawn anew when one of the run's files has changed."""
        with self._drawing:
            files = sorted(
                path
                for pattern in ("*", "*/*")
                for path in self.folder.glob(pattern)
                if path.suffix in (".json", ".jsonl", ".yaml")
            )
            for path in files:
                inside(self.folder, path)
            state = [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
            if state != self._drawn:
                self._report, self._drawn = html.report(read(self.folder)), state
            return self._report

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # the reader closed the page
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Viewer
    server_version = "Solon"
    sys_version = ""
    timeout = 30  # seconds that a request may take to arrive

    def parse_request(self) -> bool:
        """Whether the request may be answered; if not, it was refused here."""
        if not super().parse_request():
            return False
        if self.command not in ("GET", "HEAD"):
            self._send(Response(HTTPStatus.METHOD_NOT_ALLOWED, "The viewer only shows: GET and HEAD.\n"))
        elif not self._is_for_here():
            self._send(Response(HTTPStatus.FORBIDDEN, f"The viewer is at {self.server.address} only.\n"))
        else:
            return True
        return False

    def _is_for_here(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and _name(hosts[0]) in NAMES

    def do_GET(self) -> None:
        try:
            asked = urlsplit(self.path)
            fields = {name: values[0] for name, values in parse_qs(asked.query, max_num_fields=20).items()}
        except ValueError:
            self._send(Response(HTTPStatus.BAD_REQUEST, "This is no address.\n"))
            return
        show = None if asked.scheme or asked.netloc else SHOWN.get(asked.path)
        if show is None:
            self._send(Response(HTTPStatus.NOT_FOUND, "There is no such page; the report is at /.\n"))
            return
        try:
            answer = show(self.server, fields)
        except SolonError as error:
            answer = Response(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}\n")
        except (OSError, ValueError):  # a stage is writing them anew
            says = "The run's files are changing; load the page again.\n"
            answer = Response(HTTPStatus.SERVICE_UNAVAILABLE, says)
        self._send(answer)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        status = HTTPStatus(code)
        self._send(Response(status, f"{message or status.phrase}\n"))

    def _send(self, answer: Response) -> None:
        body = answer.text.encode()
        self.send_response(answer.status)
        for name, value in FIXED.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", f"{answer.policy}; frame-ancestors 'none'")
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: a line for every request would drown what matters."""


def _name(host: str) -> str | None:
    """The name in a Host header, whatever its port: a tunnel to this machine may have another."""
    try:
        return urlsplit(f"//{host}").hostname if not set("/?#@\\") & set(host) else None
    except ValueError:
        return None


def _report(viewer: Viewer, fields: dict[str, str]) -> Response:
    page = viewer.report()
    return Response(HTTPStatus.OK, page.html, "text/html", page.policy)


def _browser(viewer: Viewer, fields: dict[str, str]) -> Response:
    inside(viewer.folder, viewer.folder / "manifest.json")
    page = html.browser(viewer.folder)
    return Response(HTTPStatus.OK, page.html, "text/html", page.policy)


def _transcripts(viewer: Viewer, fields: dict[str, str]) -> Response:
    page = fields.get("page", "1")
    wanted = Wanted(**{name: fields.get(name, "") for name in Wanted._fields})
    if not page.isdecimal() or len(page) > 9:
        return Response(HTTPStatus.BAD_REQUEST, "page is not a number\n")
    found = viewer.index.page(wanted, int(page), fields.get("id", ""))
    return Response(HTTPStatus.OK, json.dumps(found, ensure_ascii=False), "application/json")


SHOWN: dict[str, Callable[[Viewer, dict[str, str]], Response]] = {
    "/": _report,
    "/transcripts": _browser,
    "/transcripts.json": _transcripts,
}
