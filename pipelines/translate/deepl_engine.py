"""DeepL by its own library: texts in batches, each batch with one context."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import deepl

from eval.judges.asking import Reply, Request
from eval.judges.attempts import Leave, Patience, Send, TransientError, ask_all
from eval.judges.http_reply import hide
from features.errors import ConfigError, RedVillmError
from features.spec import record_digest
from pipelines.translate.engines import Ask, batches
from pipelines.translate.options import Translator
from pipelines.translate.protect import mark

_SOURCE = {"en": "EN", "zh": "ZH"}
_TARGET = {"en": "EN-US", "zh": "ZH-HANS"}


class DeepLEngine:
    """Asks DeepL, several requests at once.

    Retries are ours and not the library's, which sees each request alone: after a 429 all wait.
    """

    def __init__(self, translator: Translator) -> None:
        """Raises ConfigError where the key is missing."""
        self._translator, config = translator, translator.config
        self._from, self._to = translator.direction.split("-")
        self._key = key = os.environ.get(config.key_variable, "").strip()
        if not (key and key.isascii() and key.isprintable()):
            where, do = f"environment variable {config.key_variable}", "set it to your key"
            raise ConfigError("DeepL needs a key", where=where, do=do)
        deepl.http_client.max_network_retries = 0
        deepl.http_client.min_connection_timeout = config.timeout
        self._client = deepl.DeepLClient(
            key, server_url=config.server_url, send_platform_info=False
        )
        self._where = urlsplit(self._client.server_url).netloc
        self._glossary: str | None = None

    def remaining(self) -> int | None:
        """Characters that the account has left, None where it has no limit.

        Raises:
            RedVillmError: the key is refused, or DeepL cannot be reached.
        """
        try:
            found = self._client.get_usage().character
        except deepl.DeepLException as error:
            raise self._final(error) from None
        if found.count is None or found.limit is None:
            return None
        return max(0, found.limit - found.count)

    def ask(self, asks: Sequence[Ask], before: Callable[[str], str]) -> Iterator[tuple[str, Reply]]:
        """See `Engine`.

        Raises:
            RedVillmError: key, quota or glossary are refused, or DeepL does not answer any more.
        """
        config = self._translator.config
        self._glossary = self._find_glossary()
        sent = {batch[0].key: batch for batch in batches(asks, config)}
        requests = [
            Request(key, batch[0].context, json.dumps([mark(ask.source, "xml") for ask in batch]))
            for key, batch in sent.items()
        ]

        def before_batch(key: str) -> str:
            for ask in sent[key]:
                before(ask.key)
            return key

        patience = Patience(self._where, config.concurrency, config.attempts, config.first_wait)
        for key, reply in ask_all(requests, self._session(), before_batch, patience):
            texts = json.loads(reply.text) if reply.text else [None] * len(sent[key])
            for ask, text in zip(sent[key], texts, strict=True):
                yield ask.key, Reply(reply.outcome, text, reply.reason, "deepl")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Send]:
        with ThreadPoolExecutor(self._translator.config.concurrency) as threads:

            async def send(request: Request, leave: Leave) -> Reply:
                await leave()
                run = asyncio.get_running_loop().run_in_executor
                return await run(threads, self._send, request)

            yield send

    def _send(self, request: Request) -> Reply:
        texts = json.loads(request.user)
        try:
            found = self._client.translate_text(
                texts,
                source_lang=_SOURCE[self._from],
                target_lang=_TARGET[self._to],
                context=request.system or None,
                formality=self._translator.config.formality,
                glossary=self._glossary,
                tag_handling="xml",
                ignore_tags="x",
                outline_detection=False,
                split_sentences=deepl.SplitSentences.ALL,  # so that line breaks stay
            )
        except deepl.DeepLException as error:
            status = error.http_status_code
            if status in (408, 429) or (status or 500) >= 500:
                reason = f"HTTP {status}" if status else "no connection"
                raise TransientError(reason, too_many=status == 429) from None
            if status in (400, 413):  # of this request alone
                return Reply("api_failure", reason=hide(str(error), self._key)[:200])
            raise self._final(error) from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # it came with 200 and was paid for: another attempt would be paid for as well
            reason = f"no translation in the answer: {type(error).__name__}"
            return Reply("api_failure", reason=reason)
        results = [one.text for one in found] if isinstance(found, list) else [found.text]
        if len(results) != len(texts):
            return Reply("api_failure", reason=f"{len(results)} translations of {len(texts)} texts")
        return Reply("ok", json.dumps(results))

    def _find_glossary(self) -> str | None:
        """The id of a glossary with our terms: one that an earlier run made, or a new one."""
        terms = dict(self._translator.terms)
        if not terms:
            return None
        name = f"red-villm-{self._translator.direction}-{record_digest(terms)[:12]}"
        try:
            for known in self._client.list_glossaries():
                if known.name == name and known.ready:
                    return known.glossary_id
            return self._client.create_glossary(name, self._from, self._to, terms).glossary_id
        except deepl.DeepLException as error:
            raise self._final(error) from None

    def _final(self, error: deepl.DeepLException) -> RedVillmError:
        """What ends all asking, without the library's words: a proxy's may repeat the key."""
        status = error.http_status_code
        do, what = "check it and run again; nothing that came back is lost", "DeepL cannot be asked"
        if status == 456:
            what, do = (
                "DeepL's quota for this period is used up",
                "raise it or wait for the next period, and run again: nothing is paid for twice",
            )
        elif status in (401, 403):
            what = "DeepL refuses the key"
            do = f"check the environment variable {self._translator.config.key_variable}"
        got = f"HTTP {status}" if status else type(error).__name__
        return RedVillmError(what, where=self._where, got=got, do=do)
