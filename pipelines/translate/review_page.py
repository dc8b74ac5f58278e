"""The review page: a server for this machine alone, for whoever has its address.

The address holds a random token; without it, or under another name than this machine's, every
request is refused, so neither another user nor another web page can read or decide anything. The
page's policy (Content-Security-Policy) allows its own script and style, and no text becomes markup.
"""

from __future__ import annotations

import json
import re
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.report.page import PAGE
from features.errors import RedVillmError
from features.translation import Direction
from pipelines.translate.review_session import Session, StaleError

TEMPLATES = Path(__file__).parent / "templates"
LANGUAGES = {"en": "en", "zh": "zh-Hans"}
POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"),
        *("img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
        *("require-trusted-types-for 'script'", "trusted-types 'none'"),
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_LARGEST = 1 << 20
"""Bytes of a decision."""
_NUMBER = re.compile("[0-9]{1,9}")


class ReviewServer(ThreadingHTTPServer):
    """Serves one session under `address` until it is shut down.

    Raises:
        RedVillmError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, name: str, direction: Direction, port: int = 0) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            do = "say another --port, or none"
            raise RedVillmError("cannot listen", where=f"port {port}", got=error, do=do) from error
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{host}:{self.server_port}" for host in ("127.0.0.1", "localhost")}
        self.address = f"http://127.0.0.1:{self.server_port}/{self.token}/"
        source, target = (LANGUAGES[language] for language in direction.split("-"))
        loader = FileSystemLoader(TEMPLATES)
        environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        self._page = environment.get_template("review.html")
        self._facts = {"name": name, "source": source, "target": target}
        sheets = (PAGE / "report.css", TEMPLATES / "review.css")
        style = "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
        self.files = {
            "review.css": ("text/css", style.encode()),
            "review.js": ("text/javascript", (TEMPLATES / "review.js").read_bytes()),
        }

    def page(self) -> bytes:
        """The page, which begins at the first line to review that nobody has decided yet."""
        session = self.session
        facts = {"start": session.start(), "reviewer": session.reviewer}
        html = self._page.render(**self._facts, **facts, ask="" if session.named else "yes")
        return html.encode(errors="replace")


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer

    def do_GET(self) -> None:
        name = self._name()
        if name is None:
            return
        if not name:
            self._send(HTTPStatus.OK, "text/html", self.server.page())
        elif name in self.server.files:
            self._send(HTTPStatus.OK, *self.server.files[name])
        elif name == "lines":
            asked = self._query()
            known = {key: asked[key] for key in ("at", "near", "due") if key in asked}
            to_review = not asked.get("all")
            self._send_json(HTTPStatus.OK, self.server.session.part(to_review, **known))
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such page")

    def do_POST(self) -> None:
        name = self._name()
        if name is None:
            return
        length = self.headers.get("Content-Length", "")
        if name != "decide" or not length.isdecimal() or int(length) > _LARGEST:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"not a decision")
            return
        try:
            asked = json.loads(self.rfile.read(int(length)))
            self._send_json(HTTPStatus.OK, self.server.session.decide(asked))
        except StaleError as error:
            told = self.server.session.told(asked["id"])
            self._send_json(HTTPStatus.CONFLICT, {"error": str(error), **told})
        except ValueError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _name(self) -> str | None:
        """What is asked for below the token; None where it was refused."""
        token, below, name = urlsplit(self.path).path.removeprefix("/").partition("/")
        ours = secrets.compare_digest(token.encode(), self.server.token.encode())
        if ours and below and self.headers.get("Host") in self.server.hosts:
            return name
        self._send(HTTPStatus.FORBIDDEN, "text/plain", b"open the address that the command printed")
        return None

    def _query(self) -> dict[str, int]:
        found = parse_qs(urlsplit(self.path).query)
        return {key: int(text) for key, (text, *_) in found.items() if _NUMBER.fullmatch(text)}

    def _send_json(self, status: HTTPStatus, record: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(record).encode())

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the address is a secret."""
