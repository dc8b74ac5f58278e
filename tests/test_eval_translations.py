"""What is recorded of translations, and how it is told."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny_eval import TinyEval, make_tiny_eval, save_run

from eval.folders import META, PREDICTIONS, read_meta
from eval.formats import import_predictions
from eval.generate import GenerateConfig, generate
from eval.judges.offline import OfflineJudge
from eval.report.study.view import asked
from eval.run import judge_answers
from eval.translations import original_split, route_of, split_name, translations_label
from features.annotations import load_annotations
from features.config import BaseConfig, DatasetConfig
from features.errors import AnnotationError
from features.recipes import load_recipe
from features.translation import Translation, write_translation
from pipelines.study.run import benchmark_facts

ASKED = Translation("annotations", "en-zh", "deepl", "ab" * 32, 300)
SAID = Translation("predictions", "zh-en", "opus-mt@12345678", "cd" * 32, 8000)
CONFIG = GenerateConfig(batch_size=8, max_new_tokens=3, dtype="float64", device="cpu")


def meta(*records: Translation) -> dict[str, object]:
    found = [asdict(record) for record in records]
    return {"dataset": "d", "split": "test", "translations": found}


def test_the_label_names_direction_engine_and_review() -> None:
    assert translations_label([]) == translations_label([{"split": "test"}, meta()]) == ""
    assert translations_label([meta(ASKED), meta(ASKED)]) == "annotations en-zh by deepl"
    both = [meta(ASKED, SAID)]
    assert translations_label(both) == (
        "annotations en-zh by deepl; predictions zh-en by opus-mt@12345678"
    )


def test_files_of_one_split_add_up_and_runs_that_share_them_do_not() -> None:
    answers = replace(ASKED, lines=300, reviewed=20)
    split = meta(ASKED, answers)  # questions, and answers some of which were reviewed
    assert translations_label([split, split]) == "annotations en-zh by deepl, 20 of 600 reviewed"


def test_translated_answers_have_a_split_of_their_own() -> None:
    assert split_name(meta(ASKED)) == "test"
    assert split_name(meta(ASKED, SAID)) == "test.zh-en"
    assert (route_of(meta(ASKED)), route_of(meta(SAID))) == ("", "zh-en")
    names = ("test.zh-en", "test", "generic.v1", "val.en-zh")
    assert [original_split(name) for name in names] == ["test", "test", "generic.v1", "val"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, base: BaseConfig) -> TinyEval:
    return make_tiny_eval(tmp_path_factory.mktemp("tiny"), questions=6)


@pytest.fixture
def dataset(made: TinyEval) -> DatasetConfig:
    for record in made.root.glob("*.translation.json"):
        record.unlink()
    return load_recipe("datasets", str(made.recipe), DatasetConfig)


def test_answers_from_before_are_gone_on_with_and_take_over_what_is_known_since(
    made: TinyEval, base: BaseConfig, dataset: DatasetConfig, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", base, made.store)
    folder = generate(CONFIG, base, dataset, run, made.store)
    assert read_meta(folder)["translations"] == []
    old = {name: value for name, value in read_meta(folder).items() if name != "translations"}
    (folder / META).write_text(json.dumps(old))
    answers = (folder / PREDICTIONS).read_bytes()
    lines = answers.splitlines(keepends=True)
    (folder / PREDICTIONS).write_bytes(b"".join(lines[:3]))
    generate(CONFIG, base, dataset, run, made.store)
    assert sorted((folder / PREDICTIONS).read_bytes().splitlines()) == sorted(answers.splitlines())
    assert read_meta(folder).get("translations", []) == []
    # what asks the same may have been translated, and reviewed since
    files = dataset.splits["test"]
    assert files.answers is not None
    write_translation(files.questions, ASKED)
    write_translation(files.answers, replace(ASKED, reviewed=2))
    generate(CONFIG, base, dataset, run, made.store)
    both = [asdict(ASKED), asdict(replace(ASKED, reviewed=2))]
    assert read_meta(folder)["translations"] == both
    summary = judge_answers(folder, OfflineJudge("zh"))
    told = json.loads((summary.folder / "summary.json").read_text(encoding="utf-8"))
    assert told["translations"] == "annotations en-zh by deepl, 2 of 600 reviewed"
    assert told["judge"] == "offline-em-f1-2 (zh)"
    assert told["meta"]["translations"] == both
    assert "tiny test - annotations en-zh by deepl, 2 of 600 reviewed)" in str(summary)


def test_imported_answers_are_to_translated_questions_too(
    dataset: DatasetConfig, tmp_path: Path
) -> None:
    split = dataset.splits["test"]
    write_translation(split.questions, ASKED)
    samples = load_annotations(split)
    rows = [{"id": s.sample_id, "question": s.question, "pred": "red"} for s in samples]
    (tmp_path / "theirs.json").write_text(json.dumps(rows))
    import_predictions(tmp_path / "theirs.json", samples, dataset, "test", tmp_path / "eval")
    assert read_meta(tmp_path / "eval")["translations"] == [asdict(ASKED)]


def test_a_study_says_it_of_what_it_asks(dataset: DatasetConfig) -> None:
    name = {"dataset": "tiny", "split": "test"}
    assert benchmark_facts(dataset, "test") == name  # as studies of before have it
    write_translation(dataset.splits["test"].questions, ASKED)
    told = benchmark_facts(dataset, "test")
    assert told == name | {"translations": "annotations en-zh by deepl"}
    assert asked(name) == "tiny, test"
    assert asked(told) == "tiny, test - annotations en-zh by deepl"


def test_a_damaged_record_is_no_missing_one(
    made: TinyEval, base: BaseConfig, dataset: DatasetConfig, tmp_path: Path
) -> None:
    questions = dataset.splits["test"].questions
    questions.with_name(f"{questions.name}.translation.json").write_text("{")
    run = save_run(tmp_path / "run", base, made.store)
    with pytest.raises(AnnotationError, match=r"cannot read.*translate the file again"):
        generate(CONFIG, base, dataset, run, made.store)
