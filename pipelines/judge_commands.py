"""`python -m pipelines judge`, `predictions <verb>`: answers that are there, judged, exchanged."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from eval.scores import MIN_COVERAGE
from features.errors import ConfigError
from pipelines.stages import Stage, console, say
from pipelines.translated_command import TranslatedOptions, run_translated


@dataclass(frozen=True)
class JudgeOptions:
    """Judge answers that are there: an evaluation's folder, or a published file."""

    path: Path
    """Folder with predictions.jsonl, or a file of Video-ChatGPT's forms (JSON list or JSONL)."""
    dataset: str | None = None
    """File: recipe of the dataset whose questions it answers: a name, or a YAML file."""
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
    """Recipe of the dataset whose questions it answers: a name, or a YAML file."""
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
    min_coverage: float = MIN_COVERAGE
    """Share of the questions that must have been judged for a headline."""


def run_judge(options: JudgeOptions, judging: Any) -> int:
    """`judge`: 2 when a judge failed or gave no headline, or something of a batch went wrong."""
    from pipelines.evaluation import explain, judge_folder, say_failed

    # what is only written, handed in or collected asks for the key itself where it needs one
    judges = (judging if options.batch is None else replace(judging, estimate=True)).make()
    if options.batch is not None:
        _require_endpoints([judge for judge, _ in judges])
    folder = _answers(options)
    bad = False
    for judge, again in judges:
        try:
            if options.batch is not None:
                bad |= _run_batch(options.batch, folder, judge, judging)
            else:
                bad |= _refuses(judge_folder(folder, judge, judging, console, again))
        except Exception as error:  # a judge that cannot be asked stops no other
            bad = True
            say_failed(console, f"{folder}, judge {judge.record.label}: {explain(error)}")
    return 2 if bad else 0


def run_export(options: ExportOptions) -> None:
    """`predictions export`."""
    from eval.folders import read_meta
    from eval.formats import export_predictions

    meta = read_meta(options.folder)
    dataset = _dataset_of(options.folder, meta, options.dataset)
    split = dataset.splits[meta["split"]]
    lost = export_predictions(options.folder, options.target, options.form, split)
    left_out = f"; {lost:,} lost questions are left out, for the scripts would score them"
    say(f"{options.target}: {options.form}{left_out if lost else ''}")


def run_import(options: ImportOptions) -> None:
    """`predictions import`."""
    _import(options.file, _dataset(options.dataset, options.split), options.split, options.run)


def run_judged(options: JudgedOptions) -> int:
    """`predictions judged`: 2 when an aspect has no headline."""
    from eval.folders import read_meta
    from eval.judged_formats import PublishedJudge, earlier_judgements, read_judgements
    from eval.run import judge_answers

    meta = read_meta(options.folder)
    dataset = _dataset_of(options.folder, meta, options.dataset)
    prefix = dataset.splits[meta["split"]].id_prefix
    results = [pair.partition("=")[::2] for pair in options.results.split()]
    aspects = _aspects(" ".join(name for name, _ in results))
    if strange := [f"{name}={file}" for name, file in results if name not in meta["aspects"]]:
        got, wanted = " ".join(strange), ", ".join(meta["aspects"])
        raise ConfigError("not judged for this", where=options.folder, got=got, wanted=wanted)
    verdicts = earlier_judgements(options.folder, options.name, aspects)
    for aspect, (_, where) in zip(aspects, results, strict=True):
        verdicts += read_judgements(Path(where), options.folder, aspect, prefix)
    judge = PublishedJudge(options.name, verdicts)
    summary = judge_answers(options.folder, judge, options.min_coverage, again=True)
    say(str(summary))
    return 2 if summary.refused else 0


def _answers(options: JudgeOptions) -> Path:
    """The folder that is meant, or the one that is made of a file."""
    from eval.folders import PREDICTIONS

    if not options.path.exists():
        raise ConfigError("no such file or folder", where=options.path)
    if options.path.is_dir():
        _require_no_file_options(options)
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
    say(f"{folder}: {done.answered:,} answers; {done.missing:,} questions without one are lost")
    return folder


def _run_batch(
    step: Literal["write", "submit", "collect"], folder: Path, judge: Any, judging: Any
) -> bool:
    """One step of judging through files; whether something went wrong."""
    from eval.judges.batch import submit, write_batches
    from pipelines.evaluation import judge_folder

    if step == "write":
        written = write_batches(judge, _items(folder), judge.batches)
        say(f"{judge.batches}: {len(written)} files to hand in")
        judge_folder(folder, judge, replace(judging, estimate=True), console)
        return False
    if step == "submit":
        say(f"{judge.batches}: {submit(judge.batches, judge)} files handed in")
        return False
    return _collect(folder, judge, judging)


def _collect(folder: Path, judge: Any, judging: Any) -> bool:
    """Take in what came back, and judge if that is all; whether something went wrong."""
    from eval.judges.batch import collect
    from eval.judges.batch_files import open_keys
    from pipelines.evaluation import judge_folder

    came = collect(judge.batches, judge)
    say(f"{judge.batches}: {came.replies:,} replies, {came.failed:,} of them failures")
    for name, how_far in {**came.waiting, **came.problems}.items():
        say(f"{name}: {how_far}")
    # what was asked again and failed again has been asked again
    judge.config = replace(judge.config, reask_failed=False)
    due = {request.key for request in judge.due(_items(folder))}
    if due:
        if left := due - open_keys(judge.batches):
            say(f"{len(left):,} requests are left: run write again")
        return bool(came.problems)
    return bool(came.problems) | _refuses(judge_folder(folder, judge, judging, console, again=True))


def _require_endpoints(judges: list[Any]) -> None:
    from eval.judges.rubric_judge import RubricJudge

    for judge in judges:
        if not isinstance(judge, RubricJudge) or judge.config.kind != "endpoint":
            wanted = "a judge of kind endpoint"
            raise ConfigError("only endpoints take batches", got=judge.record.label, wanted=wanted)


def _require_no_file_options(options: JudgeOptions) -> None:
    """A folder says itself what it answers."""
    names = ("dataset", "split", "run", "aspects")
    silent = {field.name: field.default for field in fields(options)}
    if said := [f"--{name}" for name in names if getattr(options, name) != silent[name]]:
        what, got = "only a file of answers has these options", " ".join(said)
        raise ConfigError(what, where=options.path, got=got, do="leave them out for a folder")


def _refuses(summary: Any) -> bool:
    return summary is not None and bool(summary.refused)


def _items(folder: Path) -> Any:
    from eval.folders import read_meta, read_predictions
    from eval.run import judge_items

    return judge_items(read_predictions(folder), read_meta(folder)["aspects"])


def _dataset(name: str, split: str) -> Any:
    from features.recipes import find_split
    from pipelines.eval_jobs import load_benchmark

    dataset = load_benchmark(name)
    find_split(dataset, split)
    return dataset


def _dataset_of(folder: Path, meta: Any, recipe: str | None) -> Any:
    """The dataset that answers are to, by the recipe that is named or their own word."""
    if recipe is not None:
        return _dataset(recipe, meta["split"])
    try:
        return _dataset(meta["dataset"], meta["split"])
    except ConfigError as error:
        got, do = f"{meta['dataset']}: {error.what}", "say --dataset FILE.yaml"
        raise ConfigError("whose answers are these?", where=folder, got=got, do=do) from error


def _aspects(text: str) -> tuple[Any, ...]:
    from features.config import Aspect
    from features.recipes import did_you_mean

    known = get_args(Aspect)
    names = text.split()
    for name in names or [text]:
        if name not in known:
            raise ConfigError("no such aspect", got=name, do=did_you_mean(name, known))
    if len(set(names)) < len(names):
        raise ConfigError("an aspect is named twice", got=text)
    return tuple(names)


def _judge_configs() -> tuple[type[Any], ...]:
    from pipelines.evaluation import Judging

    return JudgeOptions, Judging


STAGES = {"judge": Stage(_judge_configs, run_judge, ("path",))}
VERBS = {
    "export": Stage(lambda: (ExportOptions,), run_export, ("folder", "target")),
    "import": Stage(lambda: (ImportOptions,), run_import, ("file",)),
    "judged": Stage(lambda: (JudgedOptions,), run_judged, ("folder",)),
    "translated": Stage(lambda: (TranslatedOptions,), run_translated, ("folder", "file")),
}
