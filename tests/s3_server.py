"""A real S3 server (moto's) on loopback that can count requests and misbehave; run as a process.

Prints its port. Beside S3 it answers `/-/log` (the requests since the last call) and takes faults
at `/-/fault`: {"kind", "method", "match"}, each for the next request that fits.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>try again</Message></Error>"


class Watched:
    """The S3 application behind a log and a list of faults."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.log: list[str] = []
        self.faults: list[dict[str, str]] = []
        # S3 checks a condition and writes in one step; moto's threads could come between.
        self.writing = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query = environ.get("QUERY_STRING", "")
        if path.startswith("/-/"):
            return self.control(path, environ, start)
        kind = self.fault(method, path)
        what = "LIST" if "list-type" in query else method
        self.log.append(f"{what} {path}?{query}" if query else f"{what} {path}")
        self.read_body(environ)
        if kind == "stall":
            time.sleep(120)
        if kind == "conflict":
            start("409 Conflict", [("Content-Length", str(len(CONFLICT)))])
            return [CONFLICT]
        if kind == "garble":  # a server that keeps other bytes than it was sent
            for name in [name for name in environ if "CHECKSUM" in name]:
                del environ[name]
            body = bytearray(environ["wsgi.input"].read())
            body[len(body) // 2] ^= 1
            environ["wsgi.input"] = BytesIO(body)
        if kind == "blind":  # a server that has never heard of conditions
            environ.pop("HTTP_IF_NONE_MATCH", None)
            environ.pop("HTTP_IF_MATCH", None)
        if method == "GET":
            parts = list(self.app(environ, start))
        else:
            with self.writing:
                parts = list(self.app(environ, start))
        if kind == "lose":  # done, but nobody is told
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return parts

    @staticmethod
    def read_body(environ: dict[str, Any]) -> None:
        """The body is here before a fault strikes, as it would be on its way to a real server."""
        if not environ.get("wsgi.input_terminated"):
            length = int(environ.get("CONTENT_LENGTH") or 0)
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(length))

    def control(
        self, path: str, environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        if path == "/-/fault":
            length = int(environ["CONTENT_LENGTH"])
            self.faults.append(json.loads(environ["wsgi.input"].read(length)))
        log, self.log = self.log, []
        body = json.dumps(log).encode()
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def fault(self, method: str, path: str) -> str:
        for fault in self.faults:
            if fault["method"] == method and re.search(fault["match"], path):
                if fault["kind"] != "blind":
                    self.faults.remove(fault)
                return fault["kind"]
        return ""


class Quiet(MotoRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    app = Watched(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # until the tests are over
