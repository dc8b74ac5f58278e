"""Replies from any OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import openai

from eval.judges.address import OPENAI, endpoint_host, endpoint_key
from eval.judges.asking import Reply, Request
from eval.judges.attempts import Leave, Patience, Send, TransientError, ask_all
from eval.judges.http_reply import hide, read_completion, read_error
from eval.judges.options import JudgeConfig
from features.errors import ConfigError


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
        self._host = endpoint_host(config)
        self._patience = Patience(self._host, config.concurrency, config.attempts, first_wait)
        self._schemas = True
        """Whether the endpoint takes schemas, as far as is known."""
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
        return ask_all(requests, self._session(), before, self._patience)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Send]:
        async with openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._config.base_url or OPENAI,
            timeout=None,  # httpx's would be for each piece of an answer; ours is for all of it
            max_retries=0,
        ) as client:

            async def send(request: Request, leave: Leave) -> Reply:
                return await self._send(client, request, leave)

            yield send

    async def _send(self, client: openai.AsyncOpenAI, request: Request, leave: Leave) -> Reply:
        """One request on the wire; another without the schema if the endpoint does not take it.

        Raises:
            TransientError: another attempt may help.
            RedVillmError: nothing will help.
        """
        name = await leave()
        schema = request.schema if self._schemas else None
        body = request_body(self._config, request, schema)
        create: Any = client.chat.completions.with_raw_response.create
        headers = {"X-Client-Request-Id": name}
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
                return read_error(error, self._config, self._host, self._key)
        else:
            return read_completion(hide(raw.http_response.text, self._key))
        reply = await self._send(client, replace(request, schema=None), leave)
        self._schemas = self._schemas and reply.outcome != "ok"
        return reply


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
