"""From a recipe to a judge."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from eval.judges.asking import Asker
from eval.judges.base import JUDGE, Judge, JudgeRecord
from eval.judges.ledger import LEDGER
from eval.judges.options import JudgeConfig
from features.errors import ConfigError

OPENAI = "https://api.openai.com/v1"


def make_judge(config: JudgeConfig, cache: Path, token_budget: int | None = None) -> Judge:
    """The judge of a recipe.

    Args:
        config: the recipe.
        cache: root of the replies that are kept; each judge has a folder there.
        token_budget: most tokens (prompts and replies) that may be spent before asking ends.

    Raises:
        RedVillmError: a rubric, a key or a model is missing.
    """
    if config.kind == "offline":
        from eval.judges.offline import OfflineJudge

        return OfflineJudge(config.language)
    from eval.judges.rubric import load_rubric
    from eval.judges.rubric_judge import RubricJudge

    rubric = load_rubric(config.language, config.rubrics)
    record = judge_record(config, rubric.digest)
    if config.kind == "replay" and Path(config.model).is_dir():
        record = recorded_judge(Path(config.model), rubric.digest)
    return RubricJudge(
        record, rubric, lambda: _asker(config), cache / record.slug, config, token_budget
    )


def recorded_judge(folder: Path, rubric: str) -> JudgeRecord:
    """The judge whose replies a folder of the cache keeps.

    Raises:
        ConfigError: it keeps none, or they are to another rubric.
    """
    try:
        record = JudgeRecord(**json.loads((folder / JUDGE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError("no judge's replies there", where=folder, got=error) from error
    if record.rubric != rubric:
        got, wanted = rubric[:8], f"{record.rubric[:8]}, to which the replies are"
        do = "set `language` and `rubrics` as they were"
        raise ConfigError("another rubric", where=folder, got=got, wanted=wanted, do=do)
    return record


def judge_record(config: JudgeConfig, rubric: str) -> JudgeRecord:
    """What decides the verdicts of a judge that is asked."""
    asked = config.kind == "endpoint"
    return JudgeRecord(
        kind=config.kind,
        name=config.model if asked else Path(config.model).name,
        endpoint=urlsplit(config.base_url or OPENAI).netloc.rpartition("@")[2] if asked else "",
        temperature=config.temperature,
        seed=config.seed,
        max_tokens=config.max_tokens,
        structured=config.structured and asked,
        language=config.language,
        rubric=rubric,
    )


def _asker(config: JudgeConfig) -> Asker:
    """Made only when something must be asked."""
    if config.kind == "endpoint":
        from eval.judges.endpoint import EndpointAsker

        return EndpointAsker(config)
    if config.kind == "local":
        from eval.judges.local import LocalAsker

        return LocalAsker(config)
    from eval.judges.replay import ReplayAsker

    kept = Path(config.model)
    return ReplayAsker(kept / LEDGER if kept.is_dir() else kept)
