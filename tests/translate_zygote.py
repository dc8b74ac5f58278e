"""Translating that can be killed, for zygote.py: the order is what `translate` is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zygote import serve

from features.recipes import load_recipe
from pipelines.translate.deepl_engine import DeepLEngine
from pipelines.translate.memory import read_memory
from pipelines.translate.run import Work
from pipelines.translate_commands import TranslateOptions, run_translate

LOADED = (DeepLEngine, Work, load_recipe, read_memory)
"""What the command imports when it is called: once here, and not in each fork."""


def _run(order: Any) -> None:
    paths = {name: Path(order.pop(name)) for name in ("cache",)}
    if run_translate(TranslateOptions(**order, **paths)):
        raise SystemExit(2)


if __name__ == "__main__":
    serve(_run)
