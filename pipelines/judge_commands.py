"""`python -m pipelines judge`, `predictions <verb>`: answers that are there, judged, exchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from features.errors import ConfigError
from pipelines.stages import Stage, console


@dataclass(frozen=True)
class JudgeOptions:
    """Judge answers that are there: an evaluation's folder, or a published file."""

    path: Path
    """Folder with predictions.jsonl, or a file of Video-ChatGPT's forms (JSON list or JSONL)."""
    dataset: str | None = None
    """File: recipe of the dataset whose questions it answers."""
    split: str = "test"
    """File: the split it answers."""
    run: Path | None = None
    """File: run folder to make of it; runs/<dataset>/<name of the file> unless given."""
    aspects: str | None = None
    """File: what is judged (blank-separated), instead of what the dataset's recipe says."""
    batch: Literal["write", "submit", "collect"] | None = None
    """Judge through files of the Batch API: write what is to be asked, hand in all files of this
    judge, collect what came back. Without it the judge is asked at once."""


@dataclass(frozen=True)
class ExportOptions:
    """Answers as a file that Video-ChatGPT's scripts score."""

    folder: Path
    """Evaluation folder with predictions.jsonl."""
    target: Path
    """File to write."""
    form: Literal["qa", "activitynet", "vcgbench"] = "qa"
    """qa: {id, question, answer, pred}; activitynet: {video_name, Q, A, pred}; vcgbench: the
    benchmark's rows with pred, or pred1 and pred2."""
    dataset: str | None = None
    """Recipe of the dataset; the one of the answers unless given."""


@dataclass(frozen=True)
class ImportOptions:
    """A published file of answers as an evaluation that can be judged and reported."""

    file: Path
    """JSON list or JSONL of one of the forms that `export` writes."""
    dataset: str
    """Recipe of the dataset whose questions it answers."""
    split: str = "test"
    """The split it answers."""
    run: Path | None = None
    """Run folder to make; runs/<dataset>/<name of the file> unless given."""


@dataclass(frozen=True)
class JudgedOptions:
    """Judgements by Video-ChatGPT's scripts, beside those of our own judges."""

    folder: Path
    """Evaluation folder with the answers that were judged."""
    results: str
    """What the scripts wrote, by aspect: `qa=results.json`, or `correctness=a.json detail=b.json`;
    a folder of their files serves as well."""
    name: str
    """Who judged, as tables are to say it: the model, and best a date."""
    dataset: str | None = None
    """Recipe of the dataset; the one of the answers unless given."""
    min_coverage: float = 0.99
    """Share of the questions that must have been judged for a headline."""


def run_judge(options: JudgeOptions, judging: Any) -> int:
    """`judge`: 2 when an aspect has no headline, or something of a batch went wrong."""
    from pipelines.evaluation import judge_folder

    folder = _answers(options)
    bad = False
    for judge, again in judging.make():
        if options.batch is not None:
            bad |= _run_batch(options.batch, folder, judge, judging)
            continue
        summary = judge_folder(folder, judge, judging, console, again)
        bad |= summary is not None and bool(summary.refused)
    return 2 if bad else 0


def run_export(options: ExportOptions) -> None:
    """`predictions export`."""
    from eval.folders import read_meta
    from eval.formats import export_predictions

    meta = read_meta(options.folder)
    dataset = _dataset(options.dataset or meta["dataset"], meta["split"])
    split = dataset.splits[meta["split"]]
    lost = export_predictions(options.folder, options.target, options.form, split)
    left_out = f"; {lost:,} lost questions are left out, for the scripts would score them"
    console.print(f"{options.target}: {options.form}{left_out if lost else ''}", highlight=False)


def run_import(options: ImportOptions) -> None:
    """`predictions import`."""
    _import(options.file, _dataset(options.dataset, options.split), options.split, options.run)


def run_judged(options: JudgedOptions) -> int:
    """`predictions judged`: 2 when an aspect has no headline."""
    from eval.folders import read_meta
    from eval.judged_formats import PublishedJudge, read_judgements
    from eval.run import judge_answers

    meta = read_meta(options.folder)
    dataset = _dataset(options.dataset or meta["dataset"], meta["split"])
    prefix = dataset.splits[meta["split"]].id_prefix
    verdicts = []
    for pair in options.results.split():
        name, _, where = pair.partition("=")
        (aspect,) = _aspects(name)
        if aspect not in meta["aspects"]:
            wanted = ", ".join(meta["aspects"])
            raise ConfigError("not judged for this", where=options.folder, got=pair, wanted=wanted)
        verdicts += read_judgements(Path(where), options.folder, aspect, prefix)
    judge = PublishedJudge(options.name, verdicts)
    summary = judge_answers(options.folder, judge, options.min_coverage, again=True)
    console.print(str(summary), highlight=False)
    return 2 if summary.refused else 0


def _answers(options: JudgeOptions) -> Path:
    """The folder that is meant, or the one that is made of a file."""
    from eval.folders import PREDICTIONS

    if options.path.is_dir():
        if not (options.path / PREDICTIONS).exists():
            found = sorted(str(path.parent) for path in options.path.glob(f"**/{PREDICTIONS}"))
            do = f"take {' or '.join(found[:3])}" if found else "run `make eval` first"
            raise ConfigError("no answers there", where=options.path, do=do)
        return options.path
    if options.dataset is None:
        do = "say --dataset and --split"
        raise ConfigError("whose questions does the file answer?", where=options.path, do=do)
    dataset = _dataset(options.dataset, options.split)
    if options.aspects is not None:
        split = replace(dataset.splits[options.split], aspects=_aspects(options.aspects))
        dataset = replace(dataset, splits={**dataset.splits, options.split: split})
    return _import(options.path, dataset, options.split, options.run)


def _import(file: Path, dataset: Any, split: str, run: Path | None) -> Path:
    from eval.folders import eval_folder
    from eval.formats import import_predictions
    from features.annotations import load_annotations

    folder = eval_folder(run or Path("runs") / dataset.name / file.stem, dataset.name, split)
    samples = load_annotations(dataset.splits[split])
    done = import_predictions(file, samples, dataset, split, folder)
    console.print(
        f"{folder}: {done.answered:,} answers; {done.missing:,} questions without one are lost",
        highlight=False,
    )
    return folder


def _run_batch(
    step: Literal["write", "submit", "collect"], folder: Path, judge: Any, judging: Any
) -> bool:
    """One step of judging through files; whether something went wrong."""
    from eval.judges.batch import batches_folder, collect, submit, write_batches
    from eval.judges.batch_files import batch_files
    from eval.judges.rubric_judge import RubricJudge
    from pipelines.evaluation import judge_folder

    if not isinstance(judge, RubricJudge) or judge.record.kind != "endpoint":
        wanted = "a judge of kind endpoint"
        raise ConfigError("only endpoints take batches", got=judge.record.label, wanted=wanted)
    files, items = batches_folder(judge), _items(folder)
    if step == "write":
        written = write_batches(judge, items, files)
        console.print(f"{files}: {len(written)} files to hand in", highlight=False)
        judge_folder(folder, judge, replace(judging, estimate=True), console)
        return False
    if step == "submit":
        count = submit(batch_files(files), judge.config)
        console.print(f"{files}: {count} files handed in", highlight=False)
        return False
    came = collect(files, judge)
    console.print(f"{files}: {came.replies:,} replies, {came.failed:,} of them failures")
    for name, how_far in {**came.waiting, **came.problems}.items():
        console.print(f"{name}: {how_far}", highlight=False, markup=False)
    if not judge.estimate(items).requests:
        judge_folder(folder, judge, judging, console)
    return bool(came.problems)


def _items(folder: Path) -> Any:
    from eval.folders import read_meta, read_predictions
    from eval.run import judge_items

    return judge_items(read_predictions(folder), read_meta(folder)["aspects"])


def _dataset(name: str, split: str) -> Any:
    from features.config import DatasetConfig
    from features.recipes import load_recipe
    from pipelines.eval_jobs import ALIASES, pick_splits

    dataset = load_recipe("datasets", ALIASES.get(name, name), DatasetConfig)
    pick_splits(dataset, split)
    return dataset


def _aspects(text: str) -> tuple[Any, ...]:
    from features.config import Aspect
    from features.recipes import did_you_mean

    known = get_args(Aspect)
    for name in text.split() or [text]:
        if name not in known:
            raise ConfigError("no such aspect", got=name, do=did_you_mean(name, known))
    return tuple(text.split())


def _judge_configs() -> tuple[type[Any], ...]:
    from pipelines.evaluation import Judging

    return JudgeOptions, Judging


STAGES = {"judge": Stage(_judge_configs, run_judge, ("path",))}
VERBS = {
    "export": Stage(lambda: (ExportOptions,), run_export, ("folder", "target")),
    "import": Stage(lambda: (ImportOptions,), run_import, ("file",)),
    "judged": Stage(lambda: (JudgedOptions,), run_judged, ("folder",)),
}
