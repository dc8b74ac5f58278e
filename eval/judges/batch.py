"""Judging through files: the form of OpenAI's Batch API, at half the price and overnight.

`write` makes files of what a judge would ask now, `submit` hands them in, `collect` puts what came
back into the judge's ledger, where the ordinary judging finds it; then `write` again has what is
left. vLLM's `run_batch` reads the same files: put what it writes beside them as
`requests-0001.output.jsonl`, and `collect` needs no server. Files: batch_files.py.

Each step holds the judge's ledger, as judging does: two at once would hand in the same twice.
The ledger learns of a batch when it is collected; who judges in between is told to wait for that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.progress import track

from eval.judges.asking import Reply, Request
from eval.judges.attempts import TransientError
from eval.judges.base import JudgeItem
from eval.judges.batch_client import (
    FINISHED,
    URL,
    batch_client,
    batch_content,
    batch_problem,
    batch_progress,
    create_batch,
    find_batch,
)
from eval.judges.batch_files import (
    BatchState,
    batch_files,
    batch_lines,
    local_output,
    read_state,
    state_path,
    write_state,
)
from eval.judges.cost import BudgetReachedError, prompt_tokens
from eval.judges.endpoint import request_body
from eval.judges.http_reply import read_completion
from eval.judges.options import JudgeConfig
from eval.judges.rubric_judge import RubricJudge
from features.durable import commit_point, replace_file
from features.errors import RedVillmError

MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000
NOT_ASKED = ("batch_expired", "batch_cancelled")
"""Codes of requests that never reached the model."""


@dataclass(frozen=True)
class Collected:
    """What a collection came to."""

    replies: int
    """Now in the ledger."""
    failed: int
    """Api failures among them, which the next `write` asks again."""
    waiting: dict[str, str]
    """File name to how far it is."""
    problems: dict[str, str]
    """File name to why nothing, or not all, came back."""


def write_batches(judge: RubricJudge, items: Sequence[JudgeItem], folder: Path) -> list[Path]:
    """Files of what is neither answered nor in a file that was handed in; returns them.

    What earlier calls wrote, for these or other items, and was not handed in goes into them, too.
    What would pass the judge's token budget, by the estimate, stays out.

    Raises:
        RedVillmError: the ledger or a state cannot be read.
    """
    with judge.hold():
        due = judge.due(items)
        lines, waiting = _withdraw(folder, judge)
        with suppress(BudgetReachedError):
            for request in track(due, "writing requests", transient=True):
                if request.key not in waiting and request.key not in lines:
                    tokens = prompt_tokens(request) + judge.config.max_tokens
                    judge.budget.reserve(request.key, tokens)
                    lines[request.key] = _line(request, judge.config)
        return _write(lines, folder, judge)


def submit(folder: Path, judge: RubricJudge) -> int:
    """Hand in what is not handed in yet; returns how many files that were.

    A file is handed in once, also when the process dies, or the answer is lost, in between.

    Raises:
        RedVillmError: no key, or the endpoint does not take a file. Call it again then.
    """
    with judge.hold(), batch_client(judge.config) as client:
        waiting = [file for file in batch_files(folder) if not _is_settled(file)]
        for file in track(waiting, "handing in", transient=True, disable=len(waiting) < 2):
            state = read_state(file)
            begun = state.token is not None
            if not begun:
                state = write_state(file, replace(state, token=uuid4().hex))
            if state.file_id is None:
                uploaded = client.files.create(file=file, purpose="batch").id
                commit_point("batch-uploaded")
                state = write_state(file, replace(state, file_id=uploaded))
            batch_id = find_batch(client, str(state.token)) if begun else None
            if batch_id is None:
                batch_id = create_batch(client, str(state.file_id), str(state.token))
            commit_point("batch-created")
            write_state(file, replace(state, batch_id=batch_id))
    return len(waiting)


def collect(folder: Path, judge: RubricJudge) -> Collected:
    """Put what came back into the judge's ledger; what did not is due again.

    Raises:
        RedVillmError: the endpoint does not answer, or what came back belongs to other files.
    """
    waiting: dict[str, str] = {}
    problems: dict[str, str] = {}
    replies: list[Reply] = []
    with ExitStack() as stack:
        stack.enter_context(judge.hold())
        states = {file: read_state(file) for file in batch_files(folder)}
        states = {file: state for file, state in states.items() if not state.collected}
        asked = any(s.batch_id and not local_output(file).exists() for file, s in states.items())
        client = stack.enter_context(batch_client(judge.config)) if asked else None
        for file in track(states, "collecting", transient=True, disable=len(states) < 2):
            state = states[file]
            if local_output(file).exists():
                text = local_output(file).read_text(encoding="utf-8")
            elif client is None or state.batch_id is None:
                waiting[file.name] = "not handed in"
                continue
            else:
                batch = client.batches.retrieve(state.batch_id)
                if batch.status not in FINISHED:
                    waiting[file.name] = batch_progress(batch)
                    continue
                if batch.status != "completed":
                    problems[file.name] = batch_problem(batch)
                text = batch_content(client, batch)
            replies += _keep(text, file, state, judge)
            write_state(file, replace(state, collected=True))
    failed = sum(reply.outcome == "api_failure" for reply in replies)
    return Collected(len(replies), failed, waiting, problems)


def _write(lines: Mapping[str, bytes], folder: Path, judge: RubricJudge) -> list[Path]:
    """Files of the lines, numbered behind those that are there."""
    last = max((int(file.stem[-4:]) for file in batch_files(folder)), default=0)
    written = []
    for number, part in enumerate(_parts(lines), start=last + 1):
        file = folder / f"requests-{number:04d}.jsonl"
        replies = {key: len(judge.ledger.replies.get(key, ())) for key in part}
        write_state(file, BatchState(answered={key: n for key, n in replies.items() if n}))
        replace_file(file, b"".join(part.values()), "batch-file")
        written.append(file)
    return written


def _is_settled(file: Path) -> bool:
    """Handed in already, or answered without a server."""
    state = read_state(file)
    return state.batch_id is not None or state.collected or local_output(file).exists()


def _withdraw(folder: Path, judge: RubricJudge) -> tuple[dict[str, bytes], set[str]]:
    """Lines of what is still to be asked and was not handed in, and keys that are under way.

    The files go before their lines are written again: no line is ever in two of them.
    """
    lines: dict[str, bytes] = {}
    waiting: set[str] = set()
    for file in batch_files(folder):
        state = read_state(file)
        if state.under_way or (local_output(file).exists() and not state.collected):
            waiting |= dict(batch_lines(file)).keys()
        elif not state.collected:
            for key, line in batch_lines(file):
                if len(judge.ledger.replies.get(key, ())) <= state.answered.get(key, 0):
                    lines[key] = line
            file.unlink()
            state_path(file).unlink()
    return lines, waiting


def _line(request: Request, config: JudgeConfig) -> bytes:
    body = request_body(config, request, request.schema)
    row = {"custom_id": request.key, "method": "POST", "url": URL, "body": body}
    return (json.dumps(row) + "\n").encode("ascii")


def _parts(lines: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """As many lines as a file may have."""
    part: dict[str, bytes] = {}
    size = 0
    for key, line in lines.items():
        if part and (len(part) == MAX_REQUESTS or size + len(line) > MAX_BYTES):
            yield part
            part, size = {}, 0
        part[key] = line
        size += len(line)
    if part:
        yield part


def _keep(text: str, file: Path, state: BatchState, judge: RubricJudge) -> list[Reply]:
    """Replies into the ledger, each once though an earlier collection was cut off."""
    ours, found = dict(batch_lines(file)).keys(), []
    for number, line in enumerate(filter(None, text.split("\n")), start=1):
        where = f"what came back to {file}, line {number}"
        try:
            row = json.loads(line)
            key, reply = str(row["custom_id"]), _reply(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RedVillmError("not a line of a batch", where=where, got=error) from error
        if key not in ours:
            raise RedVillmError("a reply to what is not in the file", where=where, got=key)
        known = len(judge.ledger.replies.get(key, ())) > state.answered.get(key, 0)
        if reply is not None and not known:
            judge.ledger.attempt(key)
            judge.ledger.reply(key, reply)
            commit_point("batch-reply")
            found.append(reply)
    return found


def _reply(row: dict[str, Any]) -> Reply | None:
    """What a line says; None if the model was never asked."""
    response, error = row.get("response") or {}, row.get("error") or {}
    body = response.get("body") or {}
    error = error or body.get("error") or {}
    if response.get("status_code") == 200 and not error:
        try:
            return read_completion(json.dumps(body))
        except TransientError as reason:
            return Reply("api_failure", reason=str(reason))
    if error.get("code") in NOT_ASKED:
        return None
    if error.get("code") == "content_filter":
        return Reply("refused", reason="content filter")
    status = response.get("status_code", "no status")
    return Reply("api_failure", reason=f"HTTP {status}: {error.get('message', error)}"[:200])
