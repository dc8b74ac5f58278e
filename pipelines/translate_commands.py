"""`python -m pipelines translate`: annotations and predictions into another language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from features.errors import ConfigError, few
from features.spec import record_digest
from features.translation import Direction, Language, Translation, write_translation
from pipelines.stages import Stage, console, say
from pipelines.translate.files import Form
from pipelines.translate.lines import Line
from pipelines.translate.memory import REVIEWED


@dataclass(frozen=True)
class TranslateOptions:
    """What is translated, into what, and by whom."""

    file: str
    """Annotations of any form, or predictions.jsonl; or a dataset's recipe, for all its splits."""
    target: str
    """The file to write, in the very same form; or the recipe of the translated dataset."""
    to: Language = "zh"
    """Language of the translation; the file is in the other one."""
    form: Form | None = None
    """Form of the file; found by looking at it unless given."""
    answers: Path | None = None
    """`qa-pairs`: the file with the answers."""
    target_answers: Path | None = None
    """`qa-pairs`: where the translated answers go."""
    translator: str = "deepl"
    """Recipe of the translator: a name, or a YAML file."""
    memory: str = ""
    """Earlier translations (blank-separated), taken first and for nothing: OUT.lines.jsonl, where
    reviewed lines win, or SOURCE=TARGET, two files of the same rows (`qa-pairs`: Q,A=Q,A)."""
    glossary: Path | None = None
    """How terms are to be translated: lines of term, tab, translation."""
    max_characters: int | None = None
    """Most characters that this command may send, repeated attempts included; texts beyond them
    are counted as failed."""
    retry_failed: bool = False
    """Ask (and pay) again for what came unusable before: blank, cut off, or refused by a model."""
    failed: Literal["refuse", "keep"] = "refuse"
    """Texts without a translation: refuse to write the file (its lines are), or keep the source;
    of predictions nothing is kept, and their rows are left out."""
    dry_run: bool = False
    """Print what would be sent, and the quota; send nothing."""
    cache: Path = Path("runs/translation-cache")
    """What was translated before, by anybody, and is never paid for again."""


@dataclass(frozen=True)
class _Task:
    """One file, and where its translation goes."""

    file: Path
    target: Path
    form: Form | None
    answers: Path | None
    target_answers: Path | None


def run_translate(options: TranslateOptions) -> int:
    """`translate`: 2 when texts stayed without a translation and that is refused."""
    from features.recipes import load_recipe
    from pipelines.translate.memory import read_memory
    from pipelines.translate.options import TranslatorConfig, make_translator
    from pipelines.translate.review_log import tell_set_aside

    config = load_recipe("translators", options.translator, TranslatorConfig)
    direction: Direction = "en-zh" if options.to == "zh" else "zh-en"
    translator = make_translator(config, direction, options.glossary)
    memory = read_memory(options.memory.split(), direction)
    tell_set_aside("the memory", memory.set_aside)
    left, worst = options.max_characters, 0
    tasks = _tasks(options)
    _require_places(tasks)
    for task in tasks:
        sent, code = _translate(task, replace(options, max_characters=left), translator, memory)
        left = None if left is None else left - sent
        worst = max(worst, code)
    return worst


def _tasks(options: TranslateOptions) -> list[_Task]:
    """The file, or the files of all splits of a dataset."""
    file, target = Path(options.file), Path(options.target)
    if file.suffix not in (".yaml", ".yml") and (file.suffix or file.exists()):
        return [_Task(file, target, options.form, options.answers, options.target_answers)]
    from features.config import DatasetConfig
    from features.recipes import find_split, load_recipe

    ours, theirs = (
        load_recipe("datasets", name, DatasetConfig) for name in (options.file, options.target)
    )
    tasks: dict[Path, _Task] = {}
    for name, old in ours.splits.items():
        new = find_split(theirs, name)
        if new.format != old.format or new.questions == old.questions:
            wanted = f"another file of the form {old.format}"
            where, got = f"dataset {theirs.name}, split {name}", f"{new.format} {new.questions}"
            raise ConfigError("no place for a translation", where=where, got=got, wanted=wanted)
        task = _Task(old.questions, new.questions, old.format, old.answers, new.answers)
        tasks[old.questions] = task  # several splits of `jsonl` share a file
    return list(tasks.values())


def _require_places(tasks: Sequence[_Task]) -> None:
    """Refuse to write over what is read, or to one place twice."""
    sources = {path.resolve() for task in tasks for path in (task.file, task.answers) if path}
    targets = [path for task in tasks for path in (task.target, task.target_answers) if path]
    for target in targets:
        twice = sum(other.resolve() == target.resolve() for other in targets) > 1
        if twice or target.resolve() in sources:
            what = "two translations would go there" if twice else "the target is the source"
            raise ConfigError(what, where=target, wanted="a file of its own")


def _translate(
    task: _Task, options: TranslateOptions, translator: Any, memory: Any
) -> tuple[int, int]:
    """Characters that were sent, and the exit code."""
    from pipelines.translate.files import read_document
    from pipelines.translate.lines import lines_path, write_lines
    from pipelines.translate.memory import put_aside, spoken_lines
    from pipelines.translate.review_log import tell_set_aside
    from pipelines.translate.run import Work

    document = read_document(task.file, task.form, task.answers)
    spoken = spoken_lines(lines_path(task.target))
    old = spoken.lines
    tell_set_aside(task.target, spoken.set_aside)
    memory = memory.for_file(document.texts, old, translator.label)
    work = Work(document.texts, translator, memory, options.cache, options.retry_failed)
    say(f"{task.file}: {document.form}, {translator.direction} by {translator.label}")
    if options.dry_run:
        say(str(work.estimate(work.due())))
        return 0, 0
    sent = work.ask(options.max_characters, console)
    lines, faults = work.lines()
    for aside in put_aside(lines_path(task.target), old, lines):
        say(f"{aside}: what people said of earlier lines, kept")
    write_lines(lines_path(task.target), lines)
    if faults:
        what = f"{len(faults):,} translations are not faithful to what must stay"
        say(f"{what}: {few(faults)}; `review check` flags them")
    failed = Counter(line.error for line in lines if line.target is None)
    if failed:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in failed.most_common(5))
        say(f"{failed.total():,} of {len(lines):,} texts have no translation ({reasons})")
        if options.failed == "refuse":
            say(f"{task.target} is not written; run again, or say --failed keep")
            return sent, 2
    # a prediction in the wrong language would be judged; one that is not there is counted as lost
    unusable = ("rejected", "failed") if document.form == "predictions" else ("rejected",)
    without = {line.row for line in lines if line.status in unusable}
    targets = {line.id: line.target for line in lines if line.target and line.row not in without}
    document.write(targets, task.target, task.target_answers, without)
    write_translation(
        task.target,
        Translation(
            what="predictions" if document.form == "predictions" else "annotations",
            direction=translator.direction,
            engine=_engines(lines, translator.label),
            digest=record_digest([translator.digest, dict(translator.terms), memory.digests]),
            lines=len(lines),
            reviewed=sum(line.status in REVIEWED for line in lines),
            failed=failed.total(),
        ),
    )
    say(f"{task.target}: {len(lines) - failed.total():,} texts translated")
    return sent, 0


def _engines(lines: Sequence[Line], label: str) -> str:
    """Who made the texts: this translator, and whoever made those of the memory."""
    found = {line.engine for line in lines if line.target is not None}
    return " + ".join(sorted(found, key=lambda name: (name != label, name))) or label


STAGES = {"translate": Stage(lambda: (TranslateOptions,), run_translate, positionals=("file",))}
