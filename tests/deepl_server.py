"""DeepL on loopback: real HTTP, its faults, and a bill of every character it translated.

It translates as `pseudo_translation.pseudo` does, leaves ignored tags alone, joins lines as DeepL
does where there is XML, takes no request of more than 128 KiB and no XML that is none, and bills a
text (tags and contexts are free) when the answer with its translation is about to leave. It is an
OpenAI-compatible endpoint, too, which translates the last paragraph of what it is told.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, unescape

from pseudo_translation import pseudo

KEY = "the-deepl-key-of-the-test"
PASSING = ("429", "500", "503", "cut", "half")
"""Faults that another attempt mends; none of them is billed."""


@dataclass
class DeepLServer:
    """Answers the n-th request for translations with the n-th fault, and all behind them well."""

    faults: Sequence[str] = ()
    delay: float = 0.0
    """Most seconds that an answer takes."""
    limit: int = 10**9
    """Characters of the account."""
    billed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (text, context) was paid for."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    glossaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: int = 0
    """Glossaries, also those that were deleted."""
    most_glossaries: int = 1
    busy: int = 0
    """How many requests about quota and glossaries are refused with 503 first."""
    refused: str = ""
    """A request that has this in a text is refused with 400."""
    finish: str = "stop"
    """Why an endpoint's reply ends; with `length` its tokens are not counted."""
    blank: bool = False
    """Whether translations are blank."""

    def __enter__(self) -> DeepLServer:
        self.lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.deepl = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def characters(self) -> int:
        """All that was paid for."""
        return sum(len(text) * count for (text, _), count in self.billed.items())


def translate_xml(text: str) -> str:
    """What is in <x> stays, all else becomes Chinese."""
    parts = re.split(r'(?s)(<x id="\d+">.*?</x>)', text)
    outside = [escape(pseudo(" ".join(unescape(part).split("\n")))) for part in parts[::2]]
    inside = [*parts[1::2], ""]
    return "".join(part for pair in zip(outside, inside, strict=True) for part in pair)


def well_formed(text: str) -> bool:
    """Whether a text is XML."""
    try:
        ElementTree.fromstring(f"<all>{text}</all>")
    except ElementTree.ParseError:
        return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    deepl: DeepLServer

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_DELETE(self) -> None:
        del self.server.deepl.glossaries[self.path.rpartition("/")[2]]
        self._answer(204, None)

    def _is_busy(self) -> bool:
        deepl = self.server.deepl
        deepl.busy -= 1
        if deepl.busy >= 0:
            self._answer(503, {"message": "busy"})
        return deepl.busy >= 0

    def do_GET(self) -> None:
        deepl = self.server.deepl
        if self._is_busy():
            pass
        elif self.path == "/v2/usage":
            used = {"character_count": deepl.characters, "character_limit": deepl.limit}
            self._answer(200, used)
        else:
            self._answer(200, {"glossaries": list(deepl.glossaries.values())})

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(size))
        deepl = self.server.deepl
        if self.path == "/v1/chat/completions":
            self._complete(body)
        elif self.headers["Authorization"] != f"DeepL-Auth-Key {KEY}":
            self._answer(403, {"message": f"you sent {self.headers['Authorization']}"})
        elif self.path == "/v2/glossaries":
            if len(deepl.glossaries) >= deepl.most_glossaries:
                self._answer(456, {"message": "Quota exceeded"})
            else:
                self._answer(201, self._glossary(body))
        elif size > 128 * 1024:
            self._answer(413, {"message": "too large"})
        elif not all(map(well_formed, body["text"])):
            self._answer(400, {"message": "Tag handling parsing failed, please check input."})
        elif deepl.refused and any(deepl.refused in text for text in body["text"]):
            self._answer(400, {"message": "cannot do that"})
        else:
            with deepl.lock:
                number = len(deepl.requests)
                deepl.requests.append(body)
            fault = deepl.faults[number] if number < len(deepl.faults) else "ok"
            time.sleep(random.random() * deepl.delay)
            self._translate(fault, body)

    def _translate(self, fault: str, body: dict[str, Any]) -> None:
        deepl, context = self.server.deepl, body.get("context", "")
        paid = [unescape(re.sub(r"</?x\b[^>]*>", "", text)) for text in body["text"]]
        if fault in ("cut", "half"):
            if fault == "half":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")
            self.close_connection = True
        elif fault != "ok":
            sent = self.headers["Authorization"]
            self._answer(int(fault), {"message": f"not now, {sent}"}, retry=fault == "429")
        elif deepl.characters + sum(map(len, paid)) > deepl.limit:
            self._answer(456, {"message": "Quota exceeded"})
        else:
            with deepl.lock:
                deepl.billed.update((text, context) for text in paid)
            texts = [" " if deepl.blank else translate_xml(text) for text in body["text"]]
            found = [
                {"detected_source_language": "EN", "text": text, "billed_characters": len(source)}
                for text, source in zip(texts, paid, strict=True)
            ]
            self._answer(200, {"translations": found})

    def _complete(self, body: dict[str, Any]) -> None:
        with self.server.deepl.lock:
            self.server.deepl.requests.append(body)
        text = body["messages"][1]["content"].rpartition("\n\n")[2]
        message = {"role": "assistant", "content": pseudo(text)}
        finish = self.server.deepl.finish
        usage = {"prompt_tokens": 100, "completion_tokens": len(text)} if finish == "stop" else {}
        choices = [{"index": 0, "finish_reason": finish, "message": message}]
        self._answer(200, {"model": "tiny", "choices": choices, "usage": usage})

    def _glossary(self, body: dict[str, Any]) -> dict[str, Any]:
        deepl = self.server.deepl
        deepl.made += 1
        name = f"glossary-{deepl.made - 1}"
        facts = {name: body[name] for name in ("name", "source_lang", "target_lang")}
        made = {"ready": True, "creation_time": "2026-01-01T00:00:00.000Z", "entry_count": 1}
        deepl.glossaries[name] = {"glossary_id": name, **facts, **made}
        return deepl.glossaries[name]

    def _answer(self, status: int, record: dict[str, Any] | None, retry: bool = False) -> None:
        data = b"" if record is None else json.dumps(record).encode()
        more = "Retry-After: 1\r\n" if retry else ""
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(data)}\r\n{more}\r\n"
        self.wfile.write(head.encode() + data)

    def log_message(self, *_: object) -> None:
        """The log is `requests`."""
