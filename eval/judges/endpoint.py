"""Replies from any OpenAI-compatible endpoint.

All requests live in one event loop of the calling thread: what they share (the pause after a 429,
whether schemas are understood, the end) needs no locks, and stopping is cancelling. The loop takes
Ctrl-C in, so it never falls between a reply and its record.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from eval.judges.address import OPENAI, endpoint_host, endpoint_key
from eval.judges.asking import Reply, Request
from eval.judges.http_reply import TransientError, hide, read_completion, read_error
from eval.judges.options import JudgeConfig
from features.errors import ConfigError, RedVillmError

LONGEST_WAIT = 60.0
"""Seconds between two attempts; an endpoint that asks for more gets no more."""
GIVE_UP = 20
"""Requests in a row whose last attempts failed: the endpoint is gone."""


class EndpointAsker:
    """Asks an endpoint, several requests at once.

    Args:
        config: the recipe.
        first_wait: seconds between the first two attempts at a request; doubles with each one.

    Raises:
        ConfigError: the key is missing, or the address is none.
    """

    def __init__(self, config: JudgeConfig, first_wait: float = 1.0) -> None:
        self._config = config
        self._first_wait = first_wait
        if urlsplit(config.base_url or OPENAI).scheme not in ("http", "https"):
            wanted = "http://… or https://…"
            raise ConfigError("not an endpoint's address", got=config.base_url, wanted=wanted)
        self._key = endpoint_key(config)

    def ask(
        self, requests: Sequence[Request], before: Callable[[str], str]
    ) -> Iterator[tuple[str, Reply]]:
        """(key, reply) of each request as it comes; see `Asker`.

        Raises:
            RedVillmError: the endpoint refuses the key or the model, or does not answer any more.
            KeyboardInterrupt: after all that came back.
        """
        asking = _Asking(self._config, self._key, self._first_wait, before)
        loop = asyncio.new_event_loop()
        work = loop.create_task(asking.run(requests))
        work.add_done_callback(lambda _: asking.changed.set())

        def interrupt() -> None:
            asking.stop(KeyboardInterrupt())
            work.cancel()

        try:
            with _on_interrupt(loop, interrupt):
                while not work.done():
                    loop.run_until_complete(asking.changed.wait())
                    asking.changed.clear()
                    while asking.ready:
                        yield asking.ready.popleft()
            if asking.error is not None:
                raise asking.error
            work.result()
        finally:
            work.cancel()
            loop.run_until_complete(asyncio.wait([work]))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def request_body(
    config: JudgeConfig, request: Request, schema: dict[str, Any] | None
) -> dict[str, Any]:
    """What an endpoint is sent, live or in a batch."""
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [
            {"role": "system", "content": request.system},
            {"role": "user", "content": request.user},
        ],
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
    }
    if config.seed is not None:
        body["seed"] = config.seed
    if schema is not None:
        form = {"name": "verdict", "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


class _StoppedError(Exception):
    """Something ended all asking before this request left."""


class _Asking:
    """The state that all requests of one `ask` share."""

    def __init__(
        self, config: JudgeConfig, key: str, first_wait: float, before: Callable[[str], str]
    ) -> None:
        self.ready: deque[tuple[str, Reply]] = deque()
        self.changed = asyncio.Event()
        """There is something in `ready`, or all is over."""
        self.error: BaseException | None = None
        """What ended all asking."""
        self._config, self._key, self._before = config, key, before
        self._stopping = asyncio.Event()
        self._first_wait = first_wait
        self._backoff = wait_exponential(first_wait, LONGEST_WAIT) + wait_random(0, first_wait)
        self._resume_at = 0.0
        """Time of the loop before which nothing is sent."""
        self._schemas = True
        """Whether the endpoint takes schemas, as far as is known."""
        self._failures = 0
        """Requests in a row that failed."""

    async def run(self, requests: Sequence[Request]) -> None:
        """Ask all; ends when all are answered, or, after `stop`, when nothing is under way."""
        waiting = iter(requests)
        count = min(self._config.concurrency, len(requests))
        async with openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._config.base_url or OPENAI,
            timeout=None,  # httpx's would be for each piece of an answer; ours is for all of it
            max_retries=0,
        ) as client:
            await asyncio.gather(*(self._work(client, waiting) for _ in range(count)))

    def stop(self, error: BaseException) -> None:
        """Send nothing more; what is under way still comes back."""
        self.error = self.error or error
        self._stopping.set()

    async def _work(self, client: openai.AsyncOpenAI, waiting: Iterator[Request]) -> None:
        """Answer one request after the other."""
        for request in waiting:
            try:
                reply = await self._reply(client, request)
            except _StoppedError:
                return
            except Exception as error:
                self.stop(error)
                return
            self.ready.append((request.key, reply))
            self.changed.set()
            self._failures = self._failures + 1 if reply.outcome == "api_failure" else 0
            if self._failures >= GIVE_UP:
                what, do = "the endpoint does not answer any more", "check it and run again"
                got = f"{GIVE_UP} failures in a row, the last: {reply.reason}"
                self.stop(RedVillmError(what, where=endpoint_host(self._config), got=got, do=do))
            if self.error is not None:
                return

    async def _reply(self, client: openai.AsyncOpenAI, request: Request) -> Reply:
        """Attempts until one gives a reply that is one."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self._config.attempts),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            reply: Reply = await retrying(self._attempt, client, request)
        except TransientError as error:
            return Reply("api_failure", reason=f"{error} ({self._config.attempts} attempts)")
        return reply

    async def _attempt(self, client: openai.AsyncOpenAI, request: Request) -> Reply:
        """One request on the wire; another without the schema if the endpoint does not take it.

        Raises:
            TransientError: another attempt may help.
            RedVillmError: nothing will help.
        """
        now = asyncio.get_running_loop().time
        while self.error is None and (left := self._resume_at - now()) > 0:
            await self._sleep(left + random.uniform(0, self._first_wait))
        if self.error is not None:
            raise _StoppedError
        schema = request.schema if self._schemas else None
        body = request_body(self._config, request, schema)
        create: Any = client.chat.completions.with_raw_response.create
        headers = {"X-Client-Request-Id": self._before(request.key)}
        try:
            async with asyncio.timeout(self._config.timeout):
                raw = await create(**body, extra_headers=headers)
        except TimeoutError:
            raise TransientError(f"no reply in {self._config.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise TransientError(f"no connection: {type(error.__cause__).__name__}") from None
        except openai.APIStatusError as error:
            about_schema = error.status_code in (400, 422) and error.code != "content_filter"
            if schema is None or not about_schema:
                return read_error(error, self._config, endpoint_host(self._config), self._key)
        else:
            return read_completion(hide(raw.http_response.text, self._key))
        reply = await self._attempt(client, replace(request, schema=None))
        self._schemas = self._schemas and reply.outcome != "ok"
        return reply

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt; after a 429 every other request waits as well."""
        error = state.outcome.exception() if state.outcome is not None else None
        wait = self._backoff(state)
        if isinstance(error, TransientError):
            asked = min(error.retry_after, LONGEST_WAIT)
            wait = max(wait, asked + random.uniform(0, self._first_wait))
            if error.too_many:
                now = asyncio.get_running_loop().time()
                self._resume_at = max(self._resume_at, now + wait)
        return wait

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through the end of all asking."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


@contextmanager
def _on_interrupt(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> Iterator[None]:
    """Let the loop handle Ctrl-C, as far as that is ours to say."""
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        loop.add_signal_handler(signal.SIGINT, action)
    try:
        yield
    finally:
        if ours:
            loop.remove_signal_handler(signal.SIGINT)
