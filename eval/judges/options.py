"""A judge's recipe: pipelines/recipes/judges/<name>.yaml, or a YAML file of yours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.errors import ConfigError


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges, and how it is asked."""

    kind: Literal["offline", "endpoint", "local", "replay"] = "offline"
    """offline: rules, no model; endpoint: any OpenAI-compatible one; local: a model of
    transformers; replay: recorded replies."""
    model: str = ""
    """endpoint: its name there, best with a date; local: folder or hub id; replay: a judge's folder
    of the cache, or a file of replies."""
    base_url: str | None = None
    """endpoint: where it is; OpenAI's own unless given."""
    key_variable: str = "OPENAI_API_KEY"
    """endpoint: the environment variable with the key. The key itself is never written anywhere."""
    language: Literal["en", "zh"] = "en"
    """Of the rubric; of the answers where there is none (offline)."""
    words: bool = False
    """offline, zh: F1 over words as jieba cuts them instead of characters (extra `zh`)."""
    simplified: bool = False
    """offline, zh: traditional characters count as simplified ones (OpenCC, extra `zh`)."""
    rubrics: Path | None = None
    """Folder of templates instead of the project's own."""
    temperature: float = 0.0
    """Of sampling."""
    seed: int | None = 0
    """Sent with each request; null: none is sent."""
    max_tokens: int = 256
    """Longest reply."""
    structured: bool = True
    """Demand a JSON schema; false for endpoints that know none."""
    concurrency: int = 8
    """Requests under way at once."""
    timeout: float = 60.0
    """Seconds until a request counts as lost and is sent again."""
    attempts: int = 6
    """Most attempts at one request, the first included."""
    device: str = "auto"
    """local: auto (cuda, mps, cpu) or a torch device."""
    price_in: float | None = None
    """Price of a million prompt tokens, for the estimate; any currency."""
    price_out: float | None = None
    """Price of a million tokens of replies."""
    reask_failed: bool = False
    """Ask again what was refused or could not be read; api failures always are."""

    def __post_init__(self) -> None:
        if self.kind != "offline" and not self.model:
            raise ConfigError("a judge needs a model", got=f"kind {self.kind}", do="set `model`")
        if (self.words or self.simplified) and (self.kind, self.language) != ("offline", "zh"):
            got = f"kind {self.kind}, language {self.language}"
            what = "words and simplified are of the offline judge in Chinese"
            raise ConfigError(what, got=got, wanted="kind offline, language zh")
        for name in ("concurrency", "attempts", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more", got=getattr(self, name))
