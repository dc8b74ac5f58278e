"""Many requests at once to a server that may fail: attempts, pauses and the end of all asking.

All requests live in one event loop of the calling thread: what they share (the pause after a 429,
the end) needs no locks, and stopping is cancelling. The loop takes Ctrl-C in, so it never falls
between a reply and its record.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from eval.judges.asking import Reply, Request
from features.errors import RedVillmError

LONGEST_WAIT = 60.0
"""Seconds between two attempts; a server that asks for more gets no more."""
GIVE_UP = 20
"""Requests in a row whose last attempts failed: the server is gone."""

Leave = Callable[[], Awaitable[str]]
"""To be awaited just before a request goes out; gives the attempt's id."""
Send = Callable[[Request, Leave], Awaitable[Reply]]
"""One attempt on the wire. Raises TransientError where another may help, RedVillmError where none
will."""


class TransientError(Exception):
    """An attempt that failed in a way that may pass."""

    def __init__(self, reason: str, retry_after: float = 0.0, too_many: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds that the server asked to wait."""
        self.too_many = too_many
        """It has too much to do (429), so all should wait."""


@dataclass(frozen=True)
class Patience:
    """How many requests at once, and how often each is tried."""

    where: str
    """Name of the server, for errors."""
    concurrency: int
    """Requests under way at once."""
    attempts: int
    """Most attempts at one request, the first included."""
    first_wait: float = 1.0
    """Seconds between the first two attempts at a request; doubles with each one."""


def ask_all(
    requests: Sequence[Request],
    session: AbstractAsyncContextManager[Send],
    before: Callable[[str], str],
    patience: Patience,
) -> Iterator[tuple[str, Reply]]:
    """(key, reply) of each request as it comes; see `Asker`.

    Args:
        requests: with distinct keys.
        session: what sends, entered inside the loop.
        before: as of `Asker`.
        patience: how it is asked.

    Raises:
        RedVillmError: what `session` raised, or the server does not answer any more.
        KeyboardInterrupt: after all that came back.
    """
    asking = _Asking(patience, before)
    loop = asyncio.new_event_loop()
    work = loop.create_task(asking.run(requests, session))
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


class _StoppedError(Exception):
    """Something ended all asking before this request left."""


class _Asking:
    """The state that all requests of one `ask_all` share."""

    def __init__(self, patience: Patience, before: Callable[[str], str]) -> None:
        self.ready: deque[tuple[str, Reply]] = deque()
        self.changed = asyncio.Event()
        """There is something in `ready`, or all is over."""
        self.error: BaseException | None = None
        """What ended all asking."""
        self._patience, self._before = patience, before
        self._stopping = asyncio.Event()
        first = patience.first_wait
        self._backoff = wait_exponential(first, LONGEST_WAIT) + wait_random(0, first)
        self._resume_at = 0.0
        """Time of the loop before which nothing is sent."""
        self._failures = 0
        """Requests in a row that failed."""

    async def run(
        self, requests: Sequence[Request], session: AbstractAsyncContextManager[Send]
    ) -> None:
        """Ask all; ends when all are answered, or, after `stop`, when nothing is under way."""
        waiting = iter(requests)
        count = min(self._patience.concurrency, len(requests))
        async with session as send:
            await asyncio.gather(*(self._work(send, waiting) for _ in range(count)))

    def stop(self, error: BaseException) -> None:
        """Send nothing more; what is under way still comes back."""
        self.error = self.error or error
        self._stopping.set()

    async def _work(self, send: Send, waiting: Iterator[Request]) -> None:
        """Answer one request after the other."""
        for request in waiting:
            try:
                reply = await self._reply(send, request)
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
                self.stop(RedVillmError(what, where=self._patience.where, got=got, do=do))
            if self.error is not None:
                return

    async def _reply(self, send: Send, request: Request) -> Reply:
        """Attempts until one gives a reply that is one."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self._patience.attempts),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )

        async def leave() -> str:
            await self._pause()
            return self._before(request.key)

        try:
            reply: Reply = await retrying(send, request, leave)
        except TransientError as error:
            return Reply("api_failure", reason=f"{error} ({self._patience.attempts} attempts)")
        return reply

    async def _pause(self) -> None:
        """Wait as long as the server wants all to wait."""
        now = asyncio.get_running_loop().time
        while self.error is None and (left := self._resume_at - now()) > 0:
            await self._sleep(left + random.uniform(0, self._patience.first_wait))
        if self.error is not None:
            raise _StoppedError

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt; after a 429 every other request waits as well."""
        error = state.outcome.exception() if state.outcome is not None else None
        wait = self._backoff(state)
        if isinstance(error, TransientError):
            asked = min(error.retry_after, LONGEST_WAIT)
            wait = max(wait, asked + random.uniform(0, self._patience.first_wait))
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
