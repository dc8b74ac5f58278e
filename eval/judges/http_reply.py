"""What the answer of an OpenAI-compatible server means: a reply, another attempt, or the end."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime

import openai

from eval.judges.asking import Reply
from eval.judges.attempts import TransientError
from eval.judges.options import JudgeConfig
from features.errors import RedVillmError

CUT_OFF = "cut off"
"""Reason of a reply that ends where max_tokens does, which not every server counts."""


def read_completion(body: str) -> Reply:
    """The reply in the body of an answer.

    Raises:
        TransientError: HTML, broken JSON, or no choices in it.
    """
    try:
        record = json.loads(body)
        choice = record["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        usage = record.get("usage") or {}
        model = str(record.get("model") or "")
        tokens = [int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise TransientError(f"no completion in the answer: {type(error).__name__}") from None
    text = text if isinstance(text, str) else None
    if refusal:
        return Reply("refused", text or str(refusal), "refused by the model", model, *tokens)
    if choice.get("finish_reason") == "content_filter":
        return Reply("refused", text, "content filter", model, *tokens)
    cut = CUT_OFF if choice.get("finish_reason") == "length" else ""
    return Reply("ok", text or "", cut, model, *tokens)


def read_error(error: openai.APIStatusError, config: JudgeConfig, where: str, key: str) -> Reply:
    """The reply that an answer with an error status stands for.

    Raises:
        TransientError: 408, 409, 429, 5xx.
        RedVillmError: the key, the model or the credit; no other request would fare better.
    """
    status, code = error.status_code, str(error.code or "")
    got = f"HTTP {status}"
    if status in (401, 403):  # its text may repeat the key
        do = f"check the environment variable {config.key_variable}"
        raise RedVillmError("the endpoint refuses the key", where=where, got=got, do=do) from None
    if status == 404:
        do = "check `model` and `base_url` of the recipe"
        what = f"the endpoint knows no model {config.model}, or the address is wrong"
        raise RedVillmError(what, where=where, got=got, do=do) from None
    if status == 402 or code == "insufficient_quota":
        do = "raise its limit and run again; nothing that came back is lost"
        raise RedVillmError("the account has no credit left", where=where, got=got, do=do) from None
    reason = f"{got}: {hide(error.message, key)[:200]}"
    if status in (408, 409, 429) or status >= 500:
        headers = error.response.headers
        wait = _retry_after(headers.get("retry-after", ""))
        raise TransientError(reason, wait, too_many=status == 429) from None
    if code == "content_filter":
        return Reply("refused", reason="content filter")
    return Reply("api_failure", reason=reason)


def hide(text: str, key: str) -> str:
    """A text without the key; what is shorter than any key is a placeholder and may stay."""
    return text.replace(key, "***") if len(key) >= 8 else text


def _retry_after(value: str) -> float:
    """Seconds in a Retry-After header, which has seconds or a date; 0 where it has neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
