"""What asking takes in tokens and money, before and while it happens."""

from __future__ import annotations

import json
import re

from eval.judges.asking import Reply, Request
from eval.judges.options import JudgeConfig

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_BYTES_A_TOKEN = 3
"""English has about four bytes a token in today's vocabularies, so this estimates from above."""
_FRAME = 16
"""Tokens around two messages."""


class BudgetReachedError(Exception):
    """The next request does not fit any more. No error of the user's: what is left is not asked."""


class Budget:
    """A cap on the tokens that are spent and may yet be spent by what is under way."""

    def __init__(self, tokens: int | None) -> None:
        self._tokens = tokens
        self._spent = 0
        self._under_way: dict[str, int] = {}
        self._reserved = 0
        """The sum of what is under way."""

    def reserve(self, key: str, tokens: int) -> None:
        """Count a request that is about to leave at its estimate; again for another attempt at it.

        Raises:
            BudgetReachedError: it does not fit.
        """
        reserved = self._reserved - self._under_way.get(key, 0) + tokens
        if self._tokens is not None and self._spent + reserved > self._tokens:
            raise BudgetReachedError
        self._under_way[key], self._reserved = tokens, reserved

    def settle(self, key: str, reply: Reply) -> None:
        """Count a reply at what the endpoint says."""
        self._reserved -= self._under_way.pop(key, 0)
        self._spent += reply.prompt_tokens + reply.completion_tokens

    def settle_rest(self) -> None:
        """Nothing is under way any more."""
        self._under_way.clear()
        self._reserved = 0


def prompt_tokens(request: Request) -> int:
    """Estimate of a request's tokens, from above for English and about right for Chinese.

    A character of Chinese, Japanese or Korean is one token; of all else three bytes of UTF-8 are.
    The reply's schema counts too, since endpoints put it into the prompt.
    """
    schema = json.dumps(request.schema) if request.schema else ""
    return text_tokens(request.system + request.user + schema) + _FRAME


def text_tokens(text: str, bytes_a_token: int = _BYTES_A_TOKEN) -> int:
    """Estimate of a text's tokens, by its characters and bytes."""
    rest, characters = _CJK.subn("", text)
    num_bytes = len(rest.encode(errors="surrogatepass"))
    return characters + -(-num_bytes // bytes_a_token)


def price(config: JudgeConfig, prompt: int, completion: int) -> float | None:
    """Price of tokens, in the currency of the recipe; None where it has no prices."""
    if config.price_in is None and config.price_out is None:
        return None
    return (prompt * (config.price_in or 0) + completion * (config.price_out or 0)) / 1e6
