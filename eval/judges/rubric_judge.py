"""A judge that asks a model with a rubric, and asks nothing twice.

What was asked is a key: sha256 of sample, aspect, the filled-in rubric, and the judge's record (its
model, endpoint, sampling and rubric). Replies stay in the ledger under their keys as they came, and
verdicts are read out of them each time, so a better parser costs nothing.

- A refusal and an unreadable reply are final, unless the recipe says `reask_failed`.
- Before an unreadable reply is final, it is asked for once more where that can change it: without
  the JSON schema if one was demanded, or if the temperature is not 0.
- An api failure is asked again in the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rich.progress import track

from eval.judges.asking import Asker, Reply, Request
from eval.judges.base import JUDGE, Cost, JudgeItem, JudgeRecord, Verdict
from eval.judges.batch_files import BATCHES, check_not_under_way
from eval.judges.cost import Budget, BudgetReachedError, price, prompt_tokens
from eval.judges.ledger import Ledger, ReadOnlyLedger
from eval.judges.options import JudgeConfig
from eval.judges.parse import Parsed, parse_reply
from eval.judges.progress import JudgingProgress
from eval.judges.rubric import Rubric, reply_schema
from features.config import Aspect
from features.durable import replace_json
from features.spec import record_digest

MANY = 10_000
"""Items from which on filling in the rubric takes so long that it is shown."""


class RubricJudge:
    """Looks up what was asked before, asks the rest, and reads the replies."""

    def __init__(
        self,
        record: JudgeRecord,
        rubric: Rubric,
        make_asker: Callable[[], Asker],
        folder: Path,
        config: JudgeConfig,
        token_budget: int | None = None,
        asked_as: JudgeRecord | None = None,
    ) -> None:
        """`asked_as`: the record that keys cover, where it is not the judge's own."""
        self.record = record
        replays = config.kind == "replay"
        self.ledger = ReadOnlyLedger(folder) if replays else Ledger(folder)
        self.batches = folder / BATCHES
        """Where files of requests lie, if it is asked through them."""
        self._keyed_by = (asked_as or record).digest
        self._rubric = rubric
        self._make_asker = make_asker
        self._asker: Asker | None = None
        self.budget = Budget(token_budget)
        self.config = config
        self._can_differ = record.structured or record.temperature > 0

    def __call__(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """One verdict for each item, in the same order.

        Where all is answered nothing is written, and nobody is waited for.

        Raises:
            RedVillmError: the endpoint or the ledger cannot be used at all, or some of it is under
                way in a batch and would be paid for twice. What came back until then is kept.
        """
        requests = self._requests(items)
        distinct = {request.key: request for request in requests}
        aspects = {r.key: item.aspect for r, item in zip(requests, items, strict=True)}
        self.ledger.read()
        latest: dict[str, Reply] = {}
        if self._due(aspects):
            with self.hold():
                latest = self._ask_due(distinct, aspects)
        return [
            self._verdict(item, request.key, latest.get(request.key))
            for item, request in zip(items, requests, strict=True)
        ]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """The ledger for this process alone, with what others wrote and the judge's record in it.

        Raises:
            RedVillmError: cannot write there, or damaged.
        """
        with self.ledger:
            path = self.ledger.path.with_name(JUDGE)
            if self.config.kind != "replay" and not path.exists():
                replace_json(path, asdict(self.record), "judge-record")
            yield

    def estimate(self, items: Sequence[JudgeItem]) -> Cost:
        """What `__call__` would take, without second asks; nothing is sent."""
        requests = self._requests(items)
        due = self._due_of(requests, items)
        prompt = sum(prompt_tokens(request) for request in due)
        completion = len(due) * self.config.max_tokens
        cached = len({request.key for request in requests}) - len(due)
        money = price(self.config, prompt, completion)
        return Cost(len(due), cached, prompt, completion, money)

    def due(self, items: Sequence[JudgeItem]) -> list[Request]:
        """What would be asked now, each key once; nothing is sent."""
        return self._due_of(self._requests(items), items)

    def request(self, item: JudgeItem) -> Request:
        """What is asked about an item at first."""
        system, user = self._rubric.render(item)
        parts = [item.sample_id, item.aspect, system, user, self._keyed_by]
        key = record_digest(parts)
        schema = reply_schema(item.aspect) if self.record.structured else None
        return Request(key, system, user, schema)

    def _requests(self, items: Sequence[JudgeItem]) -> list[Request]:
        shown = track(items, "filling in", transient=True, disable=len(items) < MANY)
        return [self.request(item) for item in shown]

    def _due_of(self, requests: Sequence[Request], items: Sequence[JudgeItem]) -> list[Request]:
        self.ledger.read()
        distinct = {request.key: request for request in requests}
        aspects = {r.key: item.aspect for r, item in zip(requests, items, strict=True)}
        return [self._now(distinct[key]) for key in self._due(aspects)]

    def _due(self, aspects: Mapping[str, Aspect]) -> list[str]:
        return [key for key, aspect in aspects.items() if self._is_due(key, aspect, None)]

    def _ask_due(
        self, requests: Mapping[str, Request], aspects: Mapping[str, Aspect]
    ) -> dict[str, Reply]:
        """Ask what is due, then once more what could not be read; the last reply to each key."""
        latest: dict[str, Reply] = {}
        due = self._due(aspects)
        if not due:
            return latest
        check_not_under_way(self.batches, due)
        # Kept for the next answers: a local model takes its time to load, and the cap is on all.
        self._asker = asker = self._asker or self._make_asker()

        def took(key: str, reply: Reply) -> None:
            self.ledger.reply(key, reply)
            failed = reply.outcome == "api_failure" or _read(reply, aspects[key]).outcome != "ok"
            progress.advance(reply, failed, again=key in latest)
            latest[key] = reply

        with JudgingProgress(self.config, len(requests), len(requests) - len(due)) as progress:
            while due and self._ask([self._now(requests[key]) for key in due], asker, took):
                came = [key for key in due if key in latest]
                due = [key for key in came if self._is_due(key, aspects[key], latest[key])]
        return latest

    def _ask(
        self,
        requests: Sequence[Request],
        asker: Asker,
        took: Callable[[str, Reply], None],
    ) -> bool:
        """Ask; False when the budget ended first.

        What is under way counts at its estimate. When all of it is back there may be room again, so
        the budget has ended only when a request does not fit and nothing is under way.
        """
        waiting = {request.key: request for request in requests}

        def before(key: str) -> str:
            self.budget.reserve(key, prompt_tokens(waiting[key]) + self.config.max_tokens)
            return self.ledger.attempt(key)

        while waiting:
            count = len(waiting)
            try:
                for key, reply in asker.ask(list(waiting.values()), before):
                    self.budget.settle(key, reply)
                    took(key, reply)
                    del waiting[key]
                return True
            except BudgetReachedError:
                self.budget.settle_rest()
                if len(waiting) == count:
                    return False
        return True

    def _is_due(self, key: str, aspect: Aspect, latest: Reply | None) -> bool:
        """Whether a key is to be asked, `latest` being what this call got for it already."""
        if latest is not None and latest.outcome == "api_failure":
            return False
        replies = self._replies(key)
        if not replies:
            return latest is None
        if self.config.kind == "replay":  # it would say the same again
            return False
        outcome = _read(replies[-1], aspect).outcome
        if outcome == "parse_failure" and len(replies) == 1 and self._can_differ:
            return True
        return outcome != "ok" and latest is None and self.config.reask_failed

    def _now(self, request: Request) -> Request:
        """The request as it would be sent now: without a schema where that failed before."""
        return replace(request, schema=None) if self._replies(request.key) else request

    def _replies(self, key: str) -> list[Reply]:
        """What the model itself said, the oldest first."""
        return [r for r in self.ledger.replies.get(key, ()) if r.outcome != "api_failure"]

    def _verdict(self, item: JudgeItem, key: str, latest: Reply | None) -> Verdict:
        replies = self._replies(key)
        if not replies:
            if latest is None:
                reason = "the token budget ended before it"
                return Verdict(item.sample_id, item.aspect, "not_asked", reason=reason)
            return Verdict(item.sample_id, item.aspect, "api_failure", reason=latest.reason)
        parsed = _read(replies[-1], item.aspect)
        return Verdict(
            item.sample_id,
            item.aspect,
            parsed.outcome,
            parsed.correct,
            parsed.score,
            replies[-1].text,
            parsed.reason,
            sum(reply.prompt_tokens for reply in replies),
            sum(reply.completion_tokens for reply in replies),
        )


def _read(reply: Reply, aspect: Aspect) -> Parsed:
    if reply.outcome == "refused":
        return Parsed("refused", reason=reply.reason)
    return parse_reply(reply.text, aspect)
