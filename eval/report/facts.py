"""What the numbers cost, and what they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.report.gather import PartResults, RunResults, SeedFacts


def cost_rows(part: PartResults) -> list[dict[str, Any]]:
    """A row for each run and judge, over the run's seeds that this judge judged."""
    return [
        _cost(part, one, slug)
        for one in part.runs
        for slug in part.judges
        if any(slug in seed.judge_tokens for seed in one.seeds)
    ]


def fingerprints(parts: Sequence[PartResults]) -> dict[str, str]:
    """What answers and verdicts depend on, from the evaluations' own records.

    What all share stands alone; where something differs, it is said of which run.
    """
    found: dict[str, str] = {}

    def add(name: str, value: object, of: str) -> None:
        if value is not None and found.setdefault(name, str(value)) != str(value):
            found[f"{name} of {of}"] = str(value)

    for part in parts:
        one_of_many = len(parts) > 1
        where = f" ({part.part.dataset}, {part.part.split})" if one_of_many else ""
        for one in part.runs:
            for seed in one.seeds:
                who, meta = _seed_name(one, seed), seed.meta
                add(f"checkpoint of {who}", meta.get("checkpoint"), f"{who}{where}")
                add(f"published answers of {who}{where}", meta.get("source_sha256"), who)
                for key in ("base", "spec", "prompt", "dtype", "engine"):
                    add(key, meta.get(key), f"{who}{where}")
                dataset = f" ({part.part.dataset})" if one_of_many else ""
                add(f"features{dataset}", meta.get("features"), f"{who}{where}")
                add(f"annotations{where}", meta.get("annotations"), who)
        for slug, record in part.judges.items():
            add(f"judge {part.labels[slug]}", record.digest, slug)
    return found


def _seed_name(one: RunResults, seed: SeedFacts) -> str:
    several = len(one.run.seeds) > 1
    return f"{one.run.name} (seed {seed.number + 1})" if several else one.run.name


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
