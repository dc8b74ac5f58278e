"""A server on loopback with the files and batches of OpenAI's API; batches end when told to."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Row = dict[str, Any]


def completion(body: Row, text: str, **message: Any) -> Row:
    """A chat completion as the live endpoint gives it."""
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "finish_reason": "stop", "message": said}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return {
        "object": "chat.completion",
        "model": body["model"],
        "choices": [choice],
        "usage": usage,
    }


def done(row: Row, body: Row, status: int = 200) -> Row:
    """A line of an output (or error) file."""
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": row["custom_id"], "response": response, "error": None}


def well(row: Row) -> Row:
    """Every answer is right and worth 4."""
    return done(row, completion(row["body"], '{"pred": "yes", "score": 4}'))


@dataclass
class BatchServer:
    """Holds what was uploaded and created."""

    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Row] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    """Methods and paths in the order of arrival."""
    keys: set[str] = field(default_factory=set)
    lose: int = 0
    """So many answers to the creation of a batch are cut off after the batch is there."""
    status: int = 0
    """Answer everything with it."""

    def __enter__(self) -> BatchServer:
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.state = self
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def rows(self, batch_id: str) -> list[Row]:
        """The requests of a batch."""
        text = self.files[self.batches[batch_id]["input_file_id"]].decode()
        return [json.loads(line) for line in text.splitlines()]

    def finish(
        self, answer: Callable[[Row], Row | None] = well, status: str = "completed", **facts: Any
    ) -> None:
        """End all batches: good lines and bad ones in a file each, None in neither."""
        for name, batch in self.batches.items():
            if batch["status"] != "validating":
                continue
            lines = [line for row in self.rows(name) if (line := answer(row))]
            good = [x for x in lines if x["response"] and x["response"]["status_code"] == 200]
            bad = [x for x in lines if x not in good]
            batch.update(status=status, **facts)
            for kind, these in (("output", good), ("error", bad)):
                if these:
                    text = "".join(json.dumps(line) + "\n" for line in these)
                    batch[f"{kind}_file_id"] = self.upload(text.encode())

    def upload(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def create(self, asked: Row) -> Row:
        name = f"batch_{len(self.batches)}"
        counts = {"total": 0, "completed": 0, "failed": 0}
        facts = {"id": name, "object": "batch", "created_at": 1, "status": "validating"}
        self.batches[name] = {**facts, "request_counts": counts, **asked}
        counts["total"] = len(self.rows(name))
        return self.batches[name]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    state: BatchServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        state = self.server.state
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.partition("?")[0].removeprefix("/v1")
        state.log.append(f"{self.command} {path}")
        state.keys.add(self.headers["authorization"])
        if state.status:
            text = f"no; your key is {self.headers['authorization']}"
            self._send({"error": {"message": text}}, state.status)
        elif (self.command, path) == ("POST", "/files"):
            self._send({"id": state.upload(_file_of(body)), "object": "file"})
        elif (self.command, path) == ("POST", "/batches"):
            batch = state.create(json.loads(body))
            if state.lose:
                state.lose -= 1
                self.close_connection = True
            else:
                self._send(batch)
        elif path == "/batches":  # pages of one
            names = sorted(state.batches, reverse=True)
            found = re.search(r"after=(\w+)", self.path)
            start = names.index(found[1]) + 1 if found else 0
            page = [state.batches[name] for name in names[start : start + 1]]
            more = start + 1 < len(names)
            self._send({"object": "list", "data": page, "has_more": more})
        elif found := re.fullmatch(r"/batches/(\w+)", path):
            self._send(state.batches[found[1]])
        elif found := re.fullmatch(r"/files/([\w-]+)/content", path):
            self._send(state.files[found[1]])
        else:
            self._send({"error": {"message": "no such path"}}, 404)

    def _send(self, record: Row | bytes, status: int = 200) -> None:
        raw = record if isinstance(record, bytes) else json.dumps(record).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(record, bytes) else "application/json"
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _file_of(body: bytes) -> bytes:
    """The file in a multipart upload, which has to be for a batch."""
    mark = body.partition(b"\r\n")[0]
    parts = body.split(mark)
    assert any(b'name="purpose"' in part and b"\r\n\r\nbatch\r\n" in part for part in parts)
    (file,) = (part for part in parts if b"filename=" in part)
    return file.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def fresh_key() -> str:
    return f"sk-{uuid.uuid4().hex}"
