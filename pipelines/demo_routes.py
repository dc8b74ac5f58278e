"""The Chinese demo on the paper's second route: its answers in English, by English references.

The training annotations are there in both languages and serve as the translator's memory, so that
no network is needed. An answer that is not among them is lost, and counted as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eval.folders import PREDICTIONS, eval_folder
from eval.judges.offline import OfflineJudge
from eval.report.build import Part
from eval.run import judge_answers
from eval.translated import add_translated
from eval.translations import translated_split
from features.annotations import load_annotations
from features.config import DatasetConfig
from pipelines.translate_commands import TranslateOptions, run_translate


def judge_in_english(
    runs: Iterable[Path], chinese: DatasetConfig, english: DatasetConfig, split: str, cache: Path
) -> Part:
    """Translate and judge the answers of runs; returns the benchmark that they now are.

    Args:
        runs: folders with answers to `split` of `chinese`.
        chinese: the questions that were asked.
        english: the same questions in English.
        split: of both.
        cache: of translations.
    """
    memory = f"{chinese.splits['train'].questions}={english.splits['train'].questions}"
    samples = load_annotations(english.splits[split])
    for run in runs:
        folder = eval_folder(run, chinese.name, split)
        target = folder / "predictions.zh-en.jsonl"
        run_translate(
            TranslateOptions(
                str(folder / PREDICTIONS),
                str(target),
                to="en",
                translator="memory",
                memory=memory,
                failed="keep",
                cache=cache,
            )
        )
        judge_answers(
            add_translated(folder, target, samples, english, split).folder, OfflineJudge("en")
        )
    return Part(english.name, translated_split(split, "zh-en"))
