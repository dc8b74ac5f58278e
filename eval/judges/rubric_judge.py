"""A judge that asks a model with a rubric, and asks nothing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.judges.asking import Asker, Request
from eval.judges.base import Cost, JudgeItem, JudgeRecord, Verdict
from eval.judges.ledger import Ledger
from eval.judges.options import JudgeConfig
from eval.judges.rubric import Rubric, reply_schema
from features.spec import canonical_json


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
    ) -> None:
        self.record = record
        self.ledger = Ledger(folder)
        self._rubric = rubric
        self._make_asker = make_asker
        self._config = config
        self._token_budget = token_budget

    def __call__(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Judge all."""
        raise NotImplementedError

    def estimate(self, items: Sequence[JudgeItem]) -> Cost:
        """What it takes."""
        raise NotImplementedError

    def due(self, items: Sequence[JudgeItem]) -> list[Request]:
        """What would be asked now, each key once, as the ledger stands; nothing is sent."""
        raise NotImplementedError

    def request(self, item: JudgeItem) -> Request:
        """What is asked about an item."""
        system, user = self._rubric.render(item)
        parts = [item.sample_id, item.aspect, system, user, self.record.digest]
        key = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
        schema = reply_schema(item.aspect) if self.record.structured else None
        return Request(key, system, user, schema)
