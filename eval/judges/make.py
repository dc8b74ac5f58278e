"""From a recipe to a judge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from eval.judges.address import endpoint_key, endpoint_name
from eval.judges.asking import Asker
from eval.judges.base import JUDGE, Judge, JudgeRecord
from eval.judges.ledger import LEDGER
from eval.judges.options import JudgeConfig
from features.durable import file_sha256
from features.errors import ConfigError


def make_judge(
    config: JudgeConfig, cache: Path, token_budget: int | None = None, asks: bool = True
) -> Judge:
    """The judge of a recipe.

    Args:
        config: the recipe.
        cache: root of the replies that are kept; each judge has a folder there.
        token_budget: most tokens (prompts and replies) that may be spent before asking ends.
        asks: whether it is to ask an endpoint by itself: a missing key is then found at once, and
            not when everything is answered and it is called.

    Raises:
        RedVillmError: a rubric, a key or a model is missing.
    """
    if config.kind == "offline":
        from eval.judges.offline import OfflineJudge

        return OfflineJudge(config.language, config.words, config.simplified)
    if asks and config.kind == "endpoint":
        endpoint_key(config)
    from eval.judges.rubric import load_rubric
    from eval.judges.rubric_judge import RubricJudge

    rubric = load_rubric(config.language, config.rubrics)
    kept, asked_as = Path(config.model), None
    if config.kind == "replay" and kept.is_dir():
        record, folder = recorded_judge(kept, rubric.digest), kept
    else:
        record = judge_record(config, rubric.digest)
        folder = cache / record.slug
    if config.kind == "replay" and not kept.is_dir():
        asked_as = replace(record, name=kept.name)  # a file cannot hold keys with its own digest
    return RubricJudge(
        record, rubric, lambda: _asker(config), folder, config, token_budget, asked_as
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
    """What decides the verdicts of a judge that is asked.

    Raises:
        CheckpointError: no such model on this machine.
        ConfigError: no such file of replies.
    """
    asked = config.kind == "endpoint"
    return JudgeRecord(
        kind=config.kind,
        name=_name(config),
        endpoint=endpoint_name(config) if asked else "",
        temperature=config.temperature,
        seed=config.seed,
        max_tokens=config.max_tokens,
        structured=config.structured and asked,
        language=config.language,
        rubric=rubric,
    )


def _name(config: JudgeConfig) -> str:
    """The model, with what tells it from others that are called the same."""
    if config.kind == "local":
        from eval.judges.local_name import local_name

        return local_name(config.model)
    if config.kind == "replay":
        try:
            return f"{Path(config.model).name}@{file_sha256(Path(config.model))[:8]}"
        except OSError as error:
            raise ConfigError("cannot read replies", where=config.model, got=error) from error
    return config.model


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
