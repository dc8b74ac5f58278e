"""DeepL by its own library: texts in batches, each batch with one context."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import deepl
from tenacity import Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from eval.judges.asking import Reply, Request
from eval.judges.attempts import (
    GIVE_UP,
    LONGEST_WAIT,
    Leave,
    Patience,
    Send,
    TransientError,
    ask_all,
)
from eval.judges.http_reply import hide
from features.errors import ConfigError, RedVillmError
from features.spec import record_digest
from pipelines.translate.engines import MOST_BYTES, Ask, Before, batches, json_bytes
from pipelines.translate.options import Translator
from pipelines.translate.protect import mark, sendable

_SOURCE = {"en": "EN", "zh": "ZH"}
_TARGET = {"en": "EN-US", "zh": "ZH-HANS"}
_Found = TypeVar("_Found")


class DeepLEngine:
    """Asks DeepL, several requests at once.

    Retries are ours and not the library's, which sees each request alone: after a 429 all wait.
    """

    def __init__(self, translator: Translator) -> None:
        """Raises ConfigError where the key is missing."""
        self._translator, config = translator, translator.config
        self._from, self._to = translator.direction.split("-")
        self._key = key = os.environ.get(config.key_name, "").strip()
        if not (key and key.isascii() and key.isprintable()):
            where, do = f"environment variable {config.key_name}", "set it to your key"
            raise ConfigError("DeepL needs a key", where=where, do=do)
        deepl.http_client.max_network_retries = 0
        deepl.http_client.min_connection_timeout = config.timeout
        self._client = deepl.DeepLClient(
            key, server_url=config.server_url, send_platform_info=False
        )
        self._where = urlsplit(self._client.server_url).netloc
        self._glossary: str | None = None
        self._accepted, self._refused = 0, 0

    def remaining(self) -> int | None:
        """Characters that the account has left, None where it has no limit.

        Raises:
            RedVillmError: the key is refused, or DeepL cannot be reached.
        """
        try:
            found = self._patiently(self._client.get_usage).character
        except deepl.DeepLException as error:
            raise self._final(error) from None
        if found.count is None or found.limit is None:
            return None
        return max(0, found.limit - found.count)

    def ask(self, asks: Sequence[Ask], before: Before) -> Iterator[tuple[str, Reply]]:
        """See `Engine`; a refused request is halved until the text that it is about stands alone.

        Raises:
            RedVillmError: key, quota or glossary are refused, or DeepL does not answer any more.
        """
        self._glossary = self._find_glossary()
        due = batches(asks, self._translator.config)
        while due:
            halves: list[list[Ask]] = []
            for batch, reply in self._ask_once(due, before):
                self._accepted += reply.outcome == "ok"
                self._refused += reply.outcome == "refused"
                if reply.outcome == "refused" and len(batch) > 1:
                    halves += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                    continue
                yield from _replies(batch, reply)
            due = halves

    def _ask_once(
        self, due: Sequence[list[Ask]], before: Before
    ) -> Iterator[tuple[list[Ask], Reply]]:
        """Each batch with its reply: `refused` where DeepL does not take the request."""
        config = self._translator.config
        sent: dict[str, list[Ask]] = {}
        requests = []
        for batch in due:
            texts = [mark(ask.source, "xml") for ask in batch]
            context = sendable(batch[0].context)
            size = sum(map(json_bytes, (*texts, context)))
            if size > MOST_BYTES:  # then it is a text alone
                reason = f"longer than a request may be: {size:,} bytes of {MOST_BYTES:,}"
                yield batch, Reply("refused", reason=reason)
                continue
            sent[batch[0].key] = batch
            requests.append(Request(batch[0].key, context, json.dumps(texts)))

        def before_batch(key: str) -> str:
            if self._refused >= GIVE_UP and not self._accepted:
                what, do = "DeepL refuses every request", "check the recipe and run again"
                got = f"{self._refused} refused, none accepted"
                raise RedVillmError(what, where=self._where, got=got, do=do)
            before([ask.key for ask in sent[key]])
            return key

        patience = Patience(self._where, config.concurrency, config.attempts, config.first_wait)
        for key, reply in ask_all(requests, self._session(), before_batch, patience):
            yield sent[key], reply

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
                tag_handling_version="v2",  # the default depends on the age of the account
                ignore_tags="x",
                outline_detection=False,
            )
        except deepl.DeepLException as error:
            status = error.http_status_code
            if _passing(error):
                reason = f"HTTP {status}" if status else "no connection"
                raise TransientError(reason, too_many=status == 429) from None
            if status in (400, 413):  # of this request alone
                return Reply("refused", reason=hide(str(error), self._key)[:200])
            raise self._final(error) from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # it came with 200 and was paid for: another attempt would be paid for as well
            reason = f"no translation in the answer: {type(error).__name__}"
            return Reply("api_failure", "", reason)
        results = found if isinstance(found, list) else [found]
        if len(results) != len(texts):
            return Reply("api_failure", "", f"{len(results)} translations of {len(texts)} texts")
        return Reply("ok", json.dumps([(one.text, one.billed_characters) for one in results]))

    def _find_glossary(self) -> str | None:
        """The id of a glossary with our terms: one that an earlier run made, or a new one."""
        terms = dict(self._translator.terms)
        if not terms:
            return None
        ours = f"red-villm-{self._translator.direction}-"
        name = f"{ours}{record_digest(terms)[:12]}"
        client = self._client
        try:
            known = self._patiently(client.list_glossaries)
            for glossary in known:
                if glossary.name == name and glossary.ready:
                    return glossary.glossary_id
            for glossary in known:  # an account may have few, a free one a single one
                if glossary.name.startswith(ours):
                    self._patiently(partial(client.delete_glossary, glossary.glossary_id))
            create = partial(client.create_glossary, name, self._from, self._to, terms)
            made = self._patiently(create)
        except deepl.QuotaExceededException:
            what, do = "no room for another glossary at DeepL", "delete one, or raise the plan"
            raise RedVillmError(what, where=self._where, got="HTTP 456", do=do) from None
        except deepl.DeepLException as error:
            raise self._final(error) from None
        return made.glossary_id

    def _patiently(self, call: Callable[[], _Found]) -> _Found:
        """What a call that costs nothing gives, with the attempts of a request for texts.

        Raises:
            DeepLException: of the last attempt.
        """
        first = self._translator.config.first_wait
        retrying = Retrying(
            retry=retry_if_exception(_passing),
            stop=stop_after_attempt(self._translator.config.attempts),
            wait=wait_exponential(first, LONGEST_WAIT) + wait_random(0, first),
            reraise=True,
        )
        return retrying(call)

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
            do = f"check the environment variable {self._translator.config.key_name}"
        got = f"HTTP {status}" if status else type(error).__name__
        return RedVillmError(what, where=self._where, got=got, do=do)


def _passing(error: BaseException) -> bool:
    """Whether another attempt may help."""
    if not isinstance(error, deepl.DeepLException):
        return False
    status = error.http_status_code
    return status in (408, 429) or (status or 500) >= 500


def _replies(batch: Sequence[Ask], reply: Reply) -> Iterator[tuple[str, Reply]]:
    """What a request's reply is for each of its texts; their tokens are billed characters."""
    if reply.outcome == "ok" and reply.text is not None:
        for ask, (text, billed) in zip(batch, json.loads(reply.text), strict=True):
            yield ask.key, Reply("ok", text, "", "deepl", prompt_tokens=billed)
        return
    paid = reply.outcome == "api_failure" and reply.text is not None  # see `_send`
    for ask in batch:
        yield ask.key, Reply("ok" if paid else reply.outcome, None, reply.reason, "deepl")
