"""The texts of a file through memory, cache and engine: nothing is paid for twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)

from eval.judges.asking import Reply
from eval.judges.ledger import Ledger
from features.durable import replace_json
from features.errors import RedVillmError
from pipelines.translate.courier import Courier
from pipelines.translate.engines import Ask, batches
from pipelines.translate.files import Text
from pipelines.translate.lines import Line
from pipelines.translate.memory import Memory
from pipelines.translate.options import Translator
from pipelines.translate.protect import has_words, unmark

_MANY = 20_000
"""Texts from which on looking them up takes so long that it is shown."""


@dataclass(frozen=True)
class Estimate:
    """What translating would take, before anything is sent."""

    texts: int
    from_memory: int
    without_words: int
    """Numbers, emoji and such: they translate themselves."""
    cached: int
    alike: int
    """Texts that are sent once with another one that is the same."""
    to_send: int
    characters: int
    """Of the texts that are sent; contexts are free of charge at DeepL, and not at an endpoint."""
    requests: int
    unusable: int
    """Texts whose translation came, was paid for and cannot be used; see `Work`."""
    remaining: int | None
    """Characters that the account has left, where the engine tells."""
    note: str = ""
    """Why it is not known what the account has left."""

    def __str__(self) -> str:
        told = (
            f"{self.texts:,} texts: {self.from_memory:,} in the memory, {self.without_words:,} "
            f"without words, {self.cached:,} in the cache, {self.alike:,} alike; to send: "
            f"{self.to_send:,} texts, {self.characters:,} characters, {self.requests:,} requests"
        )
        if self.unusable:
            told += f"; {self.unusable:,} came unusable before and wait for --retry_failed"
        if self.note:
            return f"{told}; what the account has left is not known: {self.note}"
        left = self.remaining
        return told if left is None else f"{told}; the account has {left:,} characters left"


class Work:
    """The texts of one file, and what is known of each."""

    def __init__(
        self,
        texts: Sequence[Text],
        translator: Translator,
        memory: Memory,
        cache: Path,
        retry_failed: bool = False,
    ) -> None:
        """Args: `retry_failed`: ask again what was paid for and came unusable (blank, cut off)."""
        self._texts, self._translator, self._retry = texts, translator, retry_failed
        self._known: dict[str, Line] = {}
        """Lines that need no engine, by id."""
        self._asks: dict[str, Ask] = {}
        """What is to be translated, by id; equal texts in equal contexts have equal keys."""
        self._from_memory = 0
        self._folder = cache / translator.slug
        self._ledger = Ledger(self._folder)
        self._latest: dict[str, Reply] = {}
        """Last replies of this run by key."""
        for text in track(texts, "looking up", transient=True, disable=len(texts) < _MANY):
            found = memory.find(text)
            if found is None and translator.config.kind == "memory":
                found = memory.find_anywhere(text)
            if found:
                self._known[text.id] = found
                self._from_memory += 1
            elif not has_words(text.source):
                self._known[text.id] = self._line(text, text.source)
            else:
                key = translator.key(text.source, text.context)
                self._asks[text.id] = Ask(key, text.source, text.context)

    def due(self) -> list[Ask]:
        """What is to be asked: texts without a reply, each once, in the order of the file."""
        self._ledger.read()
        if self._translator.config.kind == "memory":
            return []  # there is nobody to ask
        distinct = {ask.key: ask for ask in self._asks.values()}
        return [
            ask
            for key, ask in distinct.items()
            if self._reply(key) is None and (self._retry or not self._in_vain(key))
        ]

    def estimate(self, due: Sequence[Ask]) -> Estimate:
        """What asking would take; asks DeepL for the quota alone."""
        keys = {ask.key for ask in self._asks.values()}
        remaining, note = _remaining(self._translator) if due else (None, "")
        in_vain = sum(self._reply(key) is None and self._in_vain(key) for key in keys)
        return Estimate(
            texts=len(self._texts),
            from_memory=self._from_memory,
            without_words=len(self._known) - self._from_memory,
            cached=sum(self._reply(key) is not None for key in keys),
            alike=len(self._asks) - len(keys),
            to_send=len(due),
            characters=sum(len(ask.source) for ask in due),
            requests=len(batches(due, self._translator.config)),
            unusable=0 if self._retry else in_vain,
            remaining=remaining,
            note=note,
        )

    def ask(self, max_characters: int | None, console: Console) -> int:
        """Ask what is due, as far as the cap allows; replies are in the cache before they are here.

        Returns:
            Characters that were sent, those of repeated attempts included.

        Raises:
            RedVillmError: the engine cannot be asked at all, or not any more.
        """
        if not self.due():
            console.print(str(self.estimate([])), markup=False)
            return 0
        with Courier(self._translator, self._folder, max_characters) as courier:
            courier.wait_until_ready(console.print)
            replace_json(
                self._folder / "translator.json", asdict(self._translator), "translator-record"
            )
            due = self.due()
            console.print(str(self.estimate(due)), markup=False)
            asks = _within(due, max_characters)
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[failed]:,} failed"),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=console) as progress:
                told = f"translating: {self._translator.label}"
                failed = 0
                task = progress.add_task(told, total=len(asks), failed=failed)
                try:
                    for key, reply in courier.ask(asks):
                        self._latest[key] = reply
                        failed += _text(reply) is None
                        progress.update(task, advance=1, failed=failed)
                finally:
                    console.print(self._bill(courier), markup=False)
        return courier.sent

    def _bill(self, courier: Courier) -> str:
        told = f"sent {courier.sent:,} characters"
        if courier.repeated:
            told += f", {courier.repeated:,} of them repeated (may have been billed twice)"
        if self._translator.config.kind == "deepl":
            billed = sum(reply.prompt_tokens for reply in self._latest.values())
            told += f"; DeepL billed {billed:,} for what came back"
        return told

    def lines(self) -> tuple[list[Line], list[str]]:
        """Every line in the order of the file, and what is wrong with marks, a text a fault."""
        self._ledger.read()
        done: list[Line] = []
        faults: list[str] = []
        for text in self._texts:
            if text.id in self._known:
                done.append(self._known[text.id])
                continue
            key = self._asks[text.id].key
            reply = self._reply(key)
            if reply is None:
                line = self._line(text, None, key, self._reason(key))
            else:
                target, wrong = unmark(text.source, reply.text or "", self._translator.style)
                line = self._line(text, target.strip(), key)
                named = [token if token.strip() else "a line break" for token in wrong]
                faults += [f"{text.id}: {' '.join(named)}"] if wrong else []
            done.append(line)
        return done, faults

    def _reply(self, key: str) -> Reply | None:
        """The last good reply to a key."""
        found = [reply for reply in self._ledger.replies.get(key, ()) if _text(reply) is not None]
        return found[-1] if found else None

    def _in_vain(self, key: str) -> bool:
        """Whether the last reply was paid for and cannot be used, and would be so again."""
        replies = self._ledger.replies.get(key)
        if not replies or replies[-1].outcome != "ok":
            return False
        # an endpoint that is given more room may come to its end now
        return not 0 < replies[-1].completion_tokens < self._translator.config.max_tokens

    def _reason(self, key: str) -> str:
        """Why there is no good reply."""
        if self._translator.config.kind == "memory":
            return "not in the memory"
        reply = self._latest.get(key)
        if reply is None and self._in_vain(key):
            reply = self._ledger.replies[key][-1]
        if reply is None:
            return "not asked: beyond --max_characters"
        return reply.reason or "a blank translation"

    def _line(self, text: Text, target: str | None, key: str = "", error: str = "") -> Line:
        about = (text.id, text.row, text.field, text.source, text.context)
        if target is None:
            return Line(*about, None, "failed", key=key, error=error)
        return Line(*about, target, "machine", self._translator.label, key)


def _text(reply: Reply) -> str | None:
    """The words of a good reply."""
    good = reply.outcome == "ok" and reply.text and reply.text.strip()
    return reply.text if good else None


def _within(asks: Sequence[Ask], characters: int | None) -> list[Ask]:
    """The first texts that fit a cap."""
    chosen, so_far = [], 0
    for ask in asks:
        so_far += len(ask.source)
        if characters is not None and so_far > characters:
            break
        chosen.append(ask)
    return chosen


def _remaining(translator: Translator) -> tuple[int | None, str]:
    """Characters that the account has left, and why that is not known."""
    if translator.config.kind != "deepl":
        return None, ""
    from pipelines.translate.deepl_engine import DeepLEngine

    try:
        return DeepLEngine(translator).remaining(), ""
    except RedVillmError as error:
        return None, str(error)
