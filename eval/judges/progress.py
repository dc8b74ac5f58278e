"""What the terminal shows while a model judges."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.judges.asking import Reply
from eval.judges.cost import price
from eval.judges.options import JudgeConfig


class JudgingProgress:
    """A bar over all that is judged, with what failed and what it cost so far."""

    def __init__(self, config: JudgeConfig, total: int, cached: int) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns)
        self._config, self._cached = config, cached
        self._failed = self._prompt = self._completion = 0
        self._task = self._progress.add_task(
            f"judging: {config.model}", total=total, completed=cached, counts=self._counts()
        )

    def __enter__(self) -> JudgingProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, reply: Reply, failed: bool, again: bool) -> None:
        """Count a reply; `again`: it is the second to the same question."""
        self._failed += failed - again
        self._prompt += reply.prompt_tokens
        self._completion += reply.completion_tokens
        self._progress.update(self._task, advance=0 if again else 1, counts=self._counts())

    def _counts(self) -> str:
        tokens = self._prompt + self._completion
        money = price(self._config, self._prompt, self._completion)
        text = f"{self._cached:,} cached, {self._failed:,} failed, {tokens:,} tokens"
        return text if money is None else f"{text}, price {money:.2f}"
