"""What judging through files asks of a server with files and batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import openai
from openai.types import Batch

from eval.judges.address import OPENAI, endpoint_host, endpoint_key
from eval.judges.options import JudgeConfig
from features.errors import RedVillmError, few

URL: Final = "/v1/chat/completions"
TOKEN = "redvillm"
"""Key of a batch's metadata by which it is found again when the answer to its creation was lost."""
FINISHED = ("completed", "failed", "expired", "cancelled")


def find_batch(client: openai.OpenAI, token: str) -> str | None:
    """The batch that an earlier call created without learning of it."""
    for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get(TOKEN) == token:
            return batch.id
    return None


def create_batch(client: openai.OpenAI, file_id: str, token: str) -> str:
    """Create a batch of an uploaded file; its id."""
    # the client's own retries could create a second batch when an answer is lost
    once = client.with_options(max_retries=0)
    return once.batches.create(
        input_file_id=file_id,
        endpoint=URL,
        completion_window="24h",
        metadata={TOKEN: token},
    ).id


def batch_content(client: openai.OpenAI, batch: Batch) -> str:
    """Lines of all that came back, answers and errors."""
    names = [name for name in (batch.output_file_id, batch.error_file_id) if name]
    return "\n".join(client.files.content(name).text for name in names)


def batch_problem(batch: Batch) -> str:
    """Why a batch was not completed."""
    errors = [str(error.message) for error in (batch.errors and batch.errors.data) or ()]
    return f"{batch.status}: {few(errors)}" if errors else batch.status


def batch_progress(batch: Batch) -> str:
    """How far a batch is."""
    counts = batch.request_counts
    return f"{batch.status}, {counts.completed:,} of {counts.total:,}" if counts else batch.status


@contextmanager
def batch_client(config: JudgeConfig) -> Iterator[openai.OpenAI]:
    """A client whose errors are ours. It connects when it is first used."""
    key = endpoint_key(config)
    try:
        with openai.OpenAI(
            api_key=key,
            base_url=config.base_url or OPENAI,
            timeout=config.timeout,
            max_retries=config.attempts - 1,
        ) as client:
            yield client
    except openai.APIStatusError as error:
        secret = error.status_code in (401, 403)  # the text may repeat the key
        text = "" if secret else f": {error.message.replace(key, '***')[:200]}"
        do = f"check {config.key_variable}" if secret else "run it again; nothing is sent twice"
        got = f"HTTP {error.status_code}{text}"
        what = "the endpoint takes no batches"
        raise RedVillmError(what, where=endpoint_host(config), got=got, do=do) from None
    except openai.APIError as error:
        what, do = "no answer from the endpoint", "run it again; nothing is sent twice"
        got = f"{type(error).__name__} ({type(error.__cause__).__name__})"
        raise RedVillmError(what, where=endpoint_host(config), got=got, do=do) from None
