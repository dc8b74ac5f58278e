"""A translator's recipe: pipelines/recipes/translators/<name>.yaml, or a YAML file of yours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from eval.judges.address import OPENAI
from features.durable import escape_name
from features.errors import AnnotationError, ConfigError
from features.spec import record_digest
from features.translation import Direction
from pipelines.translate.protect import Style, without_tokens

_TEXTS_VERSION = 2
"""Raise whenever what an engine is sent for the same recipe changes."""
_KEYS = {"deepl": "DEEPL_AUTH_KEY", "endpoint": "OPENAI_API_KEY"}
_WITH_EFFECT = {
    "deepl": ("formality",),
    "endpoint": ("model", "temperature", "seed"),
    "model": ("prefix", "beams", "max_tokens"),
    "memory": (),
}
"""Fields that can change a translation that is kept. One that an endpoint cut off is not kept, so
its max_tokens is not among them; a beam search ends otherwise where it has more room."""


_WORDS = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class TranslatorConfig:
    """Who translates, and how it is asked."""

    kind: Literal["deepl", "endpoint", "model", "memory"]
    """deepl: DeepL's service; endpoint: any OpenAI-compatible one; model: a MarianMT or T5
    of transformers on this machine; memory: nobody, only what --memory has."""
    model: str = ""
    """endpoint: its name there; model: folder or hub id."""
    server_url: str | None = None
    """deepl, endpoint: where it is; DeepL's or OpenAI's own unless given."""
    key_variable: str = ""
    """The environment variable with the key; DEEPL_AUTH_KEY for deepl and OPENAI_API_KEY for
    endpoint unless given. The key itself is never written anywhere."""
    formality: Literal["default", "prefer_more", "prefer_less"] = "default"
    """deepl: how formal, where the language knows that."""
    prefix: str = ""
    """model: put before each text; models of several languages are told theirs so."""
    beams: int = 4
    """model: width of the beam search."""
    temperature: float = 0.0
    """endpoint: of sampling."""
    seed: int | None = 0
    """endpoint: sent with each request; null: none is sent."""
    max_tokens: int = 2048
    """endpoint, model: longest translation of a text; one that reaches it is a failure."""
    batch: int = 50
    """deepl (at most 50), model: texts a request; those of one request share their context."""
    concurrency: int = 8
    """deepl, endpoint: requests under way at once."""
    timeout: float = 120.0
    """Seconds until a request counts as lost and is sent (and may be paid) again."""
    attempts: int = 8
    """Most attempts at one request, the first included."""
    first_wait: float = 1.0
    """Seconds between the first two attempts at a request; doubles with each one."""
    device: str = "auto"
    """model: auto (cuda, mps, cpu) or a torch device."""

    def __post_init__(self) -> None:
        if self.kind in ("endpoint", "model") and not self.model:
            raise ConfigError("a translator needs a model", got=f"kind {self.kind}")
        for name in ("beams", "batch", "concurrency", "attempts", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more", got=getattr(self, name))

    @property
    def key_name(self) -> str:
        """The environment variable with the key: nobody is sent the key to another's service."""
        return self.key_variable or _KEYS.get(self.kind, "")

    @property
    def place(self) -> str:
        """Where it is asked; empty for the kind's own server, however that is written."""
        url = (self.server_url or "").rstrip("/") if self.kind in _KEYS else ""
        host = urlsplit(url).hostname or ""
        own = host in ("api.deepl.com", "api-free.deepl.com") if self.kind == "deepl" else False
        return "" if own or url == OPENAI else url


@dataclass(frozen=True)
class Translator:
    """A translator for one direction, and what tells it from others."""

    config: TranslatorConfig
    direction: Direction
    terms: Mapping[str, str]
    """The glossary: how terms are to be translated."""
    label: str
    """As tables say it: `deepl`, or the model's name, with a digest where it is on this machine."""

    @cached_property
    def digest(self) -> str:
        """sha256 of everything that can change a translation, but for the glossary."""
        config = self.config
        known = {name: getattr(config, name) for name in _WITH_EFFECT[config.kind]}
        who = config.kind, config.place, self.label
        return record_digest([_TEXTS_VERSION, *who, self.direction, known])

    @property
    def slug(self) -> str:
        """Folder of its cache."""
        return escape_name(f"{self.label}-{self.direction}-{self.digest[:8]}")

    @property
    def style(self) -> Style:
        """The marks it keeps."""
        return "xml" if self.config.kind == "deepl" else "brackets"

    def key(self, source: str, context: str) -> str:
        """sha256 of all that decides a translation; a local model does not see the context.

        Of the glossary only terms that may stand in the text count: another one changes nothing.
        """
        seen = "" if self.config.kind == "model" else context
        return record_digest([self.digest, source, seen, self.terms_in(source)])

    def terms_in(self, text: str) -> dict[str, str]:
        """Terms that may stand in a text, in whatever case and number.

        Each word of a term must begin a word of the text, the last two letters of a longer word
        left off, for those are what inflection changes (`study`, `studies`). That finds too many
        rather than too few. Chinese terms must stand as they are.
        """
        if not self.terms:
            return {}
        folded = without_tokens(text).casefold()
        words = f" {' '.join(_WORDS.findall(folded))}"
        return {
            term: wanted
            for term, wanted in self.terms.items()
            if all((stem in words) if stem[0] == " " else (stem in folded) for stem in _stems(term))
        }


@cache
def _stems(term: str) -> tuple[str, ...]:
    """What must stand in a text where a term does; a blank in front of what begins a word."""
    folded = term.casefold()
    if not folded.isascii():
        return (folded,)
    stems = [f" {word[: max(3, len(word) - 2)]}" for word in _WORDS.findall(folded)]
    return tuple(stems) or (folded,)


def make_translator(
    config: TranslatorConfig, direction: Direction, glossary: Path | None = None
) -> Translator:
    """The translator of a recipe.

    Raises:
        ConfigError: a glossary for a translator that cannot follow one.
        CheckpointError: no such model on this machine.
        AnnotationError: a malformed glossary.
    """
    if glossary is not None and config.kind in ("model", "memory"):
        wanted = "deepl or an endpoint"
        raise ConfigError(
            "this translator cannot follow a glossary", got=config.kind, wanted=wanted
        )
    label = config.model.rstrip("/") if config.kind == "endpoint" else config.kind
    if config.kind == "model":
        from eval.judges.local_name import local_name

        label = local_name(config.model)
    return Translator(config, direction, read_glossary(glossary) if glossary else {}, label)


def read_glossary(path: Path) -> dict[str, str]:
    """Terms and their translations from a file of `source<TAB>target` lines.

    Raises:
        AnnotationError: unreadable, a line that is not two texts, or a term with two translations.
    """
    terms: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError("cannot read a glossary", where=path, got=error) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source, target, *rest = [part.strip() for part in line.split("\t")] + [""]
        if not source or not target or any(rest):
            where, wanted = f"{path}, line {number}", "source<TAB>target"
            raise AnnotationError("not a term", where=where, got=line[:80], wanted=wanted)
        if terms.setdefault(source, target) != target:
            where = f"{path}, line {number}"
            raise AnnotationError("a term with two translations", where=where, got=source)
    return terms
