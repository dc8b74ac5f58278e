"""An OpenAI-compatible endpoint on loopback that fails as real ones do, and logs what it saw."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATUS = {"500": 500, "502": 502, "503": 503, "429": 429, "429-after": 429, "429-date": 429}
STATUS |= {"400": 400, "401": 401, "403": 403, "404": 404, "quota": 429, "filter-400": 400}
PASSING = ("429", "429-after", "500", "502", "503", "cut", "no-choices", "html", "half-json")
"""Faults that another attempt mends."""
TOKENS = {"prompt_tokens": 100, "completion_tokens": 10}


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    attempt: str
    fault: str
    body: dict[str, Any]
    authorization: str
    time: float


@dataclass
class JudgeServer:
    """Answers the n-th request with the n-th fault, and all behind them well.

    A good answer is "yes" with the score that stands in the answer as `worth <score>`, or 4. The
    fault wrong-json befalls requests with a response_format alone.
    """

    faults: Sequence[str] = ()
    delay: float = 0.0
    """Seconds that each answer takes."""
    schemas: bool = True
    """Without them a request with a response_format is a bad one."""
    seen: list[Seen] = field(default_factory=list)
    most_at_once: int = 0

    def __enter__(self) -> JudgeServer:
        self._lock, self._under_way = threading.Lock(), 0
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.judge = self
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def arrived(self, attempt: str, body: dict[str, Any], authorization: str) -> str:
        """Log a request; its fault."""
        with self._lock:
            number = len(self.seen)
            fault = self.faults[number] if number < len(self.faults) else "ok"
            if "response_format" in body and not self.schemas:
                fault = "400"
            if "response_format" not in body and fault == "wrong-json":
                fault = "ok"
            self.seen.append(Seen(attempt, fault, body, authorization, time.monotonic()))
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        return fault

    def leaves(self) -> None:
        """An answer is about to leave."""
        with self._lock:
            self._under_way -= 1


def random_faults(seed: int, count: int, kinds: Sequence[str], share: float) -> list[str]:
    """A schedule in which each request fails with the same chance."""
    draw = random.Random(seed)
    return [draw.choice(kinds) if draw.random() < share else "ok" for _ in range(count)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    judge: JudgeServer

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        judge = self.server.judge
        attempt = self.headers["X-Client-Request-Id"]
        fault = judge.arrived(attempt, body, self.headers["Authorization"])
        time.sleep(judge.delay)
        if fault == "hang":
            self.connection.recv(1)  # until the client hangs up
        judge.leaves()
        if fault == "hang":
            self.close_connection = True
        else:
            self._answer(fault, body)

    def _answer(self, fault: str, body: dict[str, Any]) -> None:
        status, kind, more = STATUS.get(fault, 200), "application/json", ""
        if fault == "429-after":
            more = "Retry-After: 0.3\r\n"
        if fault == "429-date":
            more = f"Retry-After: {self.date_time_string(int(time.time()) + 1)}\r\n"
        if fault == "html":
            text, kind = "<html><body>Welcome to the proxy</body></html>", "text/html"
        elif status != 200:
            text = json.dumps(_error(fault, self.headers["Authorization"]))
        else:
            text = json.dumps(_completion(fault, body))
        data = text.encode()
        size = len(data)
        if fault in ("cut", "half-json"):
            data = data[: size // 2]
        if fault == "half-json":
            size = len(data)
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n"
        )
        self.wfile.write(head.encode() + data)
        if fault == "cut":
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """The log is `seen`."""


def _error(fault: str, authorization: str) -> dict[str, Any]:
    """Repeats the key, as some proxies do."""
    code = {"quota": "insufficient_quota", "filter-400": "content_filter"}.get(fault)
    return {"error": {"message": f"fault {fault}, you sent {authorization}", "code": code}}


def _completion(fault: str, body: dict[str, Any]) -> dict[str, Any]:
    worth = re.search(r"worth ([\d.]+)", body["messages"][1]["content"])
    score: object = float(worth[1]) if worth else 4
    good = {"pred": "yes", "score": score}
    texts = {
        "fence": f"```json\n{json.dumps(good)}\n```",
        "wrong-json": '{"verdict": "good"}',
        "words": "It is a fine answer.",
        "refusal": "I'm sorry, but I can't help with that.",
        "4.8": '{"pred": "yes", "score": "4.8"}',
        "4/5": '{"pred": "no", "score": "4/5"}',
        "five": "Pred: yes, score: five",
        "key": json.dumps(good) + " sk-the-key-of-the-test",
    }
    message = {"role": "assistant", "content": texts.get(fault, json.dumps(good))}
    if fault == "refusal-field":
        message |= {"content": None, "refusal": "I will not."}
    finish = "content_filter" if fault == "filter" else "stop"
    choices = [{"index": 0, "finish_reason": finish, "message": message}]
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "judge-2026-01-01",
        "choices": [] if fault == "no-choices" else choices,
        "usage": {**TOKENS, "total_tokens": sum(TOKENS.values())},
    }
