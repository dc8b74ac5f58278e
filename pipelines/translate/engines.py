"""What the courier needs of whoever translates, and from a translator to an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from eval.judges.asking import Reply, Request
from eval.judges.http_reply import CUT_OFF
from eval.judges.options import JudgeConfig
from features.errors import ConfigError
from pipelines.translate.options import Translator, TranslatorConfig
from pipelines.translate.protect import mark, sendable

MOST_BYTES = 128 * 1024 - 2048
"""Of a request's texts and context as JSON; DeepL takes 128 KiB with everything around them."""
Before = Callable[[Sequence[str]], Sequence[str]]
"""Told the keys of the texts of a request, just before each attempt at it leaves; gives their
attempts' ids. When it raises, nothing more is sent, and what is under way still comes."""
_LANGUAGES = {"en": "English", "zh": "Simplified Chinese"}
_PROMPT = """\
You translate questions and answers about videos from {source} to {target}.
Reply with the translation alone: no notes, no quotation marks around it, and never an answer to a \
question. A mark such as [1] stands for something that stays: copy each mark once, where it belongs.
Keep line breaks."""


@dataclass(frozen=True)
class Ask:
    """A text to translate."""

    key: str
    """Of the cache."""
    source: str
    context: str
    """The question of an answer; empty for a question."""


@runtime_checkable
class Engine(Protocol):
    """Translates; retries by itself."""

    def ask(self, asks: Sequence[Ask], before: Before) -> Iterator[tuple[str, Reply]]:
        """(key, reply) of each text as it comes, marks not yet taken out.

        A reply that is `ok` and has no text came and was paid for, but cannot be used.

        Args:
            asks: with distinct keys.
            before: see `Before`.
        """
        ...


def batches(asks: Sequence[Ask], config: TranslatorConfig) -> list[list[Ask]]:
    """What goes into one request: texts of one context, in their order."""
    most = 1 if config.kind == "endpoint" else config.batch
    done: list[list[Ask]] = []
    filling: dict[str, tuple[list[Ask], int]] = {}
    for ask in asks:
        context = "" if config.kind == "model" else ask.context
        size = json_bytes(mark(ask.source, "xml")) if config.kind == "deepl" else 0
        batch, so_far = filling.get(context, ([], 0))
        if not batch or len(batch) == most or so_far + size > MOST_BYTES:
            batch, so_far = [], json_bytes(sendable(context))
            done.append(batch)
        batch.append(ask)
        filling[context] = batch, so_far + size
    return done


def json_bytes(text: str) -> int:
    """Size of a text in a request's body, where each Chinese character takes six bytes."""
    return len(json.dumps(text)) + 2


def make_engine(translator: Translator) -> Engine:
    """The engine of a translator.

    Raises:
        RedVillmError: a key or a model is missing.
    """
    kind = translator.config.kind
    if kind == "deepl":
        from pipelines.translate.deepl_engine import DeepLEngine

        return DeepLEngine(translator)
    if kind == "endpoint":
        return EndpointEngine(translator)
    if kind == "model":
        from pipelines.translate.model_engine import ModelEngine

        return ModelEngine(translator)
    raise ConfigError("a memory alone translates nothing new", got=kind)


class EndpointEngine:
    """Any OpenAI-compatible endpoint, a text a request."""

    def __init__(self, translator: Translator) -> None:
        """Raises ConfigError where the key is missing or the address is none."""
        from eval.judges.endpoint import EndpointAsker

        self._translator, config = translator, translator.config
        judge = JudgeConfig(
            "endpoint",
            config.model,
            base_url=config.server_url,
            key_variable=config.key_name,
            temperature=config.temperature,
            seed=config.seed,
            max_tokens=config.max_tokens,
            concurrency=config.concurrency,
            timeout=config.timeout,
            attempts=config.attempts,
        )
        self._asker = EndpointAsker(judge, config.first_wait)

    def ask(self, asks: Sequence[Ask], before: Before) -> Iterator[tuple[str, Reply]]:
        """See `Engine`; a reply that was cut off is a failure."""
        most = self._translator.config.max_tokens
        requests = [self._request(ask) for ask in asks]
        for key, reply in self._asker.ask(requests, lambda key: before([key])[0]):
            cut = reply.reason == CUT_OFF or reply.completion_tokens >= most
            if reply.outcome == "refused":
                yield key, Reply("ok", None, reply.reason, reply.model)
            elif reply.outcome == "ok" and cut:
                reason = f"longer than {most} tokens"
                yield key, Reply("ok", None, reason, reply.model, completion_tokens=most)
            else:
                yield key, reply

    def _request(self, ask: Ask) -> Request:
        source, target = self._translator.direction.split("-")
        system = _PROMPT.format(source=_LANGUAGES[source], target=_LANGUAGES[target])
        terms = [f"{a} = {b}" for a, b in self._translator.terms_in(ask.source).items()]
        if terms:
            system += "\nTranslate these terms so:\n" + "\n".join(terms)
        text = mark(ask.source, "brackets")
        if ask.context:
            context = sendable(ask.context)
            text = f"The question that was asked, not to be translated:\n{context}\n\n{text}"
        return Request(ask.key, system, text)
