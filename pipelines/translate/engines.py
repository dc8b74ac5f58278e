"""What the courier needs of whoever translates, and from a translator to an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from eval.judges.asking import Reply, Request
from eval.judges.options import JudgeConfig
from features.errors import ConfigError
from pipelines.translate.options import Translator, TranslatorConfig
from pipelines.translate.protect import mark

_MOST_BYTES = 100_000
"""Of a request's texts; DeepL takes 128 KiB with everything around them."""
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

    def ask(self, asks: Sequence[Ask], before: Callable[[str], str]) -> Iterator[tuple[str, Reply]]:
        """(key, reply) of each text as it comes, marks not yet taken out.

        Args:
            asks: with distinct keys.
            before: called with the key of each text just before each attempt at it leaves; when it
                raises, nothing more is sent, and what is under way still comes.
        """
        ...


def batches(asks: Sequence[Ask], config: TranslatorConfig) -> list[list[Ask]]:
    """What goes into one request: texts of one context, in their order."""
    most = 1 if config.kind == "endpoint" else config.batch
    done: list[list[Ask]] = []
    filling: dict[str, tuple[list[Ask], int]] = {}
    for ask in asks:
        context = "" if config.kind == "model" else ask.context
        size = len(ask.source.encode(errors="surrogatepass"))
        batch, so_far = filling.get(context, ([], 0))
        if not batch or len(batch) == most or so_far + size > _MOST_BYTES:
            batch, so_far = [], 0
            done.append(batch)
        batch.append(ask)
        filling[context] = batch, so_far + size
    return done


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
            key_variable=config.key_variable,
            temperature=config.temperature,
            seed=config.seed,
            max_tokens=config.max_tokens,
            concurrency=config.concurrency,
            timeout=config.timeout,
            attempts=config.attempts,
        )
        self._asker = EndpointAsker(judge, config.first_wait)

    def ask(self, asks: Sequence[Ask], before: Callable[[str], str]) -> Iterator[tuple[str, Reply]]:
        """See `Engine`; a reply that was cut off is a failure."""
        most = self._translator.config.max_tokens
        for key, reply in self._asker.ask([self._request(ask) for ask in asks], before):
            cut = reply.outcome == "ok" and reply.completion_tokens >= most
            reason = f"longer than {most} tokens"
            yield key, Reply("api_failure", reply.text, reason, reply.model) if cut else reply

    def _request(self, ask: Ask) -> Request:
        source, target = self._translator.direction.split("-")
        system = _PROMPT.format(source=_LANGUAGES[source], target=_LANGUAGES[target])
        there = ask.source.lower()
        terms = [f"{a} = {b}" for a, b in self._translator.terms.items() if a.lower() in there]
        if terms:
            system += "\nTranslate these terms so:\n" + "\n".join(terms)
        text = mark(ask.source, "brackets")
        if ask.context:
            text = f"The question that was asked, not to be translated:\n{ask.context}\n\n{text}"
        return Request(ask.key, system, text)
