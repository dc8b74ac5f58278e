"""What the numbers cost."""

from __future__ import annotations

from typing import Any

from eval.report.gather import PartResults, RunResults


def cost_rows(part: PartResults) -> list[dict[str, Any]]:
    """A row for each run and judge, over the run's seeds that this judge judged."""
    return [
        _cost(part, one, slug)
        for one in part.runs
        for slug in part.judges
        if any(slug in seed.judge_tokens for seed in one.seeds)
    ]


def _cost(part: PartResults, one: RunResults, slug: str) -> dict[str, Any]:
    seeds = [seed for seed in one.seeds if slug in seed.judge_tokens]
    seconds = [seed.meta.get("seconds") for seed in seeds]
    known = [float(value) for value in seconds if value is not None]
    return {
        "run": one.run.name,
        "dataset": part.part.dataset,
        "split": part.part.split,
        "judge": part.labels[slug],
        "generate_s": round(sum(known), 1) if len(known) == len(seconds) else None,
        "new_tokens": sum(seed.new_tokens for seed in seeds),
        "truncated": sum(seed.truncated for seed in seeds),
        "judge_prompt_tokens": sum(seed.judge_tokens[slug][0] for seed in seeds),
        "judge_completion_tokens": sum(seed.judge_tokens[slug][1] for seed in seeds),
    }
