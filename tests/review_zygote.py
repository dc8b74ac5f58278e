"""A process that serves reviews and can be killed, as `tests/zygote.py` starts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zygote import serve

from pipelines.translate.lines import read_lines
from pipelines.translate.review_page import ReviewServer
from pipelines.translate.review_session import Session


def run(order: Any) -> None:
    """Serve the lines of an order, and tell the address in a file."""
    session = Session(read_lines(Path(order["lines"])), {}, Path(order["log"]), "Ann")
    with ReviewServer(session, "out.json", "en-zh") as server:
        told = Path(order["address"])
        told.with_suffix(".new").write_text(server.address, encoding="utf-8")
        told.with_suffix(".new").replace(told)
        server.serve_forever()


if __name__ == "__main__":
    serve(run)
