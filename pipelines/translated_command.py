"""`python -m pipelines predictions translated`: the second evaluation route of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.stages import say


@dataclass(frozen=True)
class TranslatedOptions:
    """Translated answers as an evaluation against the other language's references."""

    folder: Path
    """Evaluation folder with the answers as they were given."""
    file: Path
    """Its predictions.jsonl, translated, with the record that the translator wrote beside it."""
    dataset: str
    """Recipe of the dataset with the references: a name, or a YAML file."""
    split: str | None = None
    """Its split; the one of the answers unless given."""


def run_translated(options: TranslatedOptions) -> None:
    """Make the folder; say what is in it and that it is yet to be judged."""
    from eval.folders import read_meta
    from eval.translated import add_translated
    from features.annotations import load_annotations
    from features.recipes import find_split
    from pipelines.eval_jobs import load_benchmark

    dataset = load_benchmark(options.dataset)
    split = options.split or read_meta(options.folder)["split"]
    samples = load_annotations(find_split(dataset, split))
    done = add_translated(options.folder, options.file, samples, dataset, split)
    text = (
        f"{done.folder}: {done.translated:,} answers; {done.failed:,} have no translation and are "
        f"lost; {done.not_asked:,} were not asked\n"
        f"to judge them: python -m pipelines judge {done.folder}"
    )
    say(text)
