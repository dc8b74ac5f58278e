"""The paper's second route: Chinese answers, translated, judged against the English references."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.answer_files import to_line
from eval.folders import META, PREDICTIONS, eval_folder, prediction_row, read_meta, read_predictions
from eval.translated import FAILED, add_translated
from features.annotations import QASample, annotations_digest, write_qa_pairs
from features.config import DatasetConfig
from features.durable import file_sha256
from features.recipes import load_recipe
from features.spec import SCHEMA_VERSION
from features.translation import Translation, write_translation
from pipelines.__main__ import main

ASKED = Translation("annotations", "en-zh", "deepl", "ab" * 32, 12, reviewed=3)
SAID = Translation("predictions", "zh-en", "deepl", "cd" * 32, 5)
ENGLISH = [
    QASample("q0", "v_a", "what is it", "a dog", "0"),
    QASample("q1", "v_a", "what does it do", "running", "1"),
    QASample("q2", "v_b", "what is it", "a cat", "0"),
    QASample("q3", "v_b", "is it red", "yes", "1"),
    QASample("q4", "v_c", "is it blue", "no", "1"),
]
CHINESE = [
    ("那是什么", "一只狗"),
    ("它在做什么", "跑步"),
    ("那是什么", "一只猫"),
    ("是红色吗", "是"),
    ("是蓝色吗", "不是"),
]
SPOKEN = ["狗。", "在跑步", "一只鸟", "", None]
"""The last is lost; and one says nothing."""
WRITTEN = ["The dog.", "It is running", "a bird", "", None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Chinese answers of a run; beside it the recipes pets.yaml and pets-zh.yaml."""
    monkeypatch.chdir(tmp_path)
    chinese = [replace(s, question=q, answer=a) for s, (q, a) in zip(ENGLISH, CHINESE, strict=True)]
    for name, samples in (("pets", ENGLISH), ("pets-zh", chinese)):
        files = Path(f"{name}-q.json"), Path(f"{name}-a.json")
        write_qa_pairs(*files, samples)
        paths = {"questions": str(files[0]), "answers": str(files[1])}
        split = {"format": "qa-pairs", **paths}
        recipe = {"name": name, "videos": ".", "splits": {"test": split}}
        Path(f"{name}.yaml").write_text(
            yaml.safe_dump(recipe | {"type_names": ["what", "whether"]})
        )
    found = eval_folder(Path("runs/pets-zh/ours/seed-0"), "pets-zh", "test")
    return answer(found, chinese, SPOKEN)


def answer(folder: Path, samples: list[QASample], preds: list[str | None]) -> Path:
    folder.mkdir(parents=True)
    facts = {"schema": SCHEMA_VERSION, "dataset": "pets-zh", "split": "test", "seconds": 1.5}
    facts |= {"annotations": annotations_digest(samples), "questions": len(samples)}
    facts |= {"aspects": ["qa"], "type_names": [], "checkpoint": "c" * 64, "features": "f" * 64}
    (folder / META).write_text(json.dumps(facts | {"translations": [asdict(ASKED)]}))
    rows = [
        prediction_row(sample, pred, None, "truncated" if pred is None else None)
        | {"finish_reason": "stop" if pred is not None else None, "num_tokens": number}
        for number, (sample, pred) in enumerate(zip(samples, preds, strict=True))
    ]
    (folder / PREDICTIONS).write_text("".join(map(to_line, rows)), encoding="utf-8")
    return folder


Change = Callable[[list[dict[str, Any]]], object]


def translate(folder: Path, change: Change = list, record: Translation | None = SAID) -> Path:
    """The answers' file with English texts, as the translator writes it."""
    rows = read_predictions(folder)
    for row, text in zip(rows, WRITTEN, strict=False):
        row["pred"] = text
    change(rows)
    file = Path("translated.jsonl")
    file.write_text("".join(map(to_line, rows)), encoding="utf-8")
    if record:
        write_translation(file, record)
    return file


def run(folder: Path, file: Path, *more: str) -> int:
    options = ["--dataset", "pets.yaml", *more]
    return main(["predictions", "translated", str(folder), str(file), *options])


def english(folder: Path) -> Path:
    return folder.parents[1] / "pets" / "test.zh-en"


def test_the_folder_has_english_questions_and_everything_of_the_answers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, translate(folder)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "4 answers; 0 have no translation" in told
    assert f"python -m pipelines judge {english(folder)}" in told
    rows = read_predictions(english(folder))
    assert [QASample(**{k: row[k] for k in asdict(ENGLISH[0])}) for row in rows] == ENGLISH
    assert [row["pred"] for row in rows] == WRITTEN
    assert [row["lost"] for row in rows] == [None] * 4 + ["truncated"]
    assert [row["num_tokens"] for row in rows] == [0, 1, 2, 3, 4]
    before, after = read_meta(folder), read_meta(english(folder))
    new = {
        **{"dataset": "pets", "split": "test", "annotations": annotations_digest(ENGLISH)},
        **{"questions": 5, "aspects": ["qa"], "type_names": ["what", "whether"]},
        "translations": [asdict(ASKED), asdict(SAID)],
        "translated_from": {
            **{"dataset": "pets-zh", "split": "test", "annotations": before["annotations"]},
            "predictions": file_sha256(folder / PREDICTIONS),
        },
    }
    assert after == before | new


def test_it_is_judged_reported_and_exported_like_any_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, translate(folder))
    shared = ["--judge_cache", "cache", "--min_coverage", "0.8"]
    assert main(["judge", str(folder), "--judge", "offline-zh", *shared]) == 0
    assert main(["judge", str(english(folder)), *shared]) == 0
    both = "annotations en-zh by deepl, 3 of 12 reviewed; predictions zh-en by deepl"
    assert f"pets test.zh-en - {both}" in " ".join(capsys.readouterr().out.split())
    report = ["report", "--dataset", "pets-zh.yaml", "--min_coverage", "0.8", "--out", "out"]
    assert main(report) == 0
    assert "test.zh-en" in capsys.readouterr().out
    tables = json.loads(Path("out/report.json").read_text(encoding="utf-8"))["tables"]
    told = {(t["dataset"], t["split"], t["route"]): (t["judge"], t["translations"]) for t in tables}
    chinese = "annotations en-zh by deepl, 3 of 12 reviewed"
    assert told == {
        ("pets", "test.zh-en", "zh-en"): ("offline-em-f1-2", both),
        ("pets-zh", "test", ""): ("offline-em-f1-2 (zh)", chinese),
    }
    # exact: dog alone of four; in Chinese none (狗 is not 一只狗)
    assert [t["rows"][0]["all"]["accuracy"] for t in tables] == [25.0, 0.0]
    assert tables[0]["rows"][0]["lost"] == {"truncated": 1}
    with Path("out/report.csv").open(encoding="utf-8") as file:
        lines = {(line["split"], line["translations"]) for line in csv.DictReader(file)}
    assert lines == {("test.zh-en", both), ("test", chinese)}
    markdown = Path("out/report.md").read_text(encoding="utf-8")
    assert f"### pets, test.zh-en - {both}" in markdown
    assert f"### pets-zh, test - {chinese}" in markdown
    names = [str(english(folder)), "theirs.json", "--dataset", "pets.yaml"]
    assert main(["predictions", "export", *names]) == 0
    exported = json.loads(Path("theirs.json").read_text())
    assert [(row["question"], row["pred"]) for row in exported[:2]] == [
        ("what is it", "The dog."),
        ("what does it do", "It is running"),
    ]


def test_what_has_no_translation_is_lost_and_never_wrong(folder: Path) -> None:
    def fail(rows: list[dict[str, Any]]) -> None:
        rows[0] |= {"pred": None, "lost": "translation failed"}
        rows[1]["pred"] = " "
        del rows[2]  # rejected by a reviewer

    assert run(folder, translate(folder, fail, replace(SAID, failed=2))) == 0
    rows = read_predictions(english(folder))
    assert [row["lost"] for row in rows] == [FAILED, FAILED, FAILED, None, "truncated"]
    assert [row["pred"] for row in rows] == [None, None, None, "", None]
    judged = ["judge", str(english(folder)), "--judge_cache", "cache"]
    assert main([*judged, "--min_coverage", "0.2"]) == 0
    (summary,) = english(folder).glob("judges/*/summary.json")
    found = json.loads(summary.read_text(encoding="utf-8"))
    assert found["lost"] == {FAILED: 3, "truncated": 1}
    assert {k: found["scores"]["qa"]["all"][k] for k in ("asked", "judged", "lost")} == {
        **{"asked": 5, "judged": 1, "lost": 4}
    }


def test_of_two_wordings_both_must_be_translated(tmp_path: Path) -> None:
    rows = [
        {"Q1": "what moves", "Q2": "which one moves", "A": "a dog", "video_name": f"v{number}"}
        for number in range(3)
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    split = {"format": "consistency", "questions": str(tmp_path / "pairs.json")}
    recipe = {
        "name": "pets",
        "videos": ".",
        "splits": {"pairs": split | {"aspects": ["consistency"]}},
    }
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(recipe))
    asked = [QASample(f"v{n}:{n}", f"v{n}", "谁在动", "狗", "", "哪个在动") for n in range(3)]
    folder = tmp_path / "run" / "eval" / "pets-zh" / "pairs"
    answer(folder, asked, ["狗", "狗", "猫"])
    spoken = [row | {"pred2": "小狗"} for row in read_predictions(folder)]
    (folder / PREDICTIONS).write_text("".join(map(to_line, spoken)), encoding="utf-8")
    written = [row | {"pred": "dog", "pred2": "puppy"} for row in spoken]
    written[1]["pred2"] = None
    file = tmp_path / "t.jsonl"
    file.write_text("".join(map(to_line, written)), encoding="utf-8")
    write_translation(file, SAID)
    options = ["--dataset", str(tmp_path / "pairs.yaml"), "--split", "pairs"]
    assert main(["predictions", "translated", str(folder), str(file), *options]) == 0
    found = read_predictions(folder.parents[1] / "pets" / "pairs.zh-en")
    assert [(row["question2"], row["pred"], row["pred2"], row["lost"]) for row in found] == [
        ("which one moves", "dog", "puppy", None),
        ("which one moves", None, None, FAILED),
        ("which one moves", "dog", "puppy", None),
    ]


def test_made_again_after_a_review_old_verdicts_count_no_more(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = ["judge", str(english(folder)), "--judge_cache", "cache", "--min_coverage", "0.8"]
    report = ["report", "--dataset", "pets-zh.yaml", "--out", "out"]
    run(folder, translate(folder))
    main(judge)
    run(folder, translate(folder))  # the same texts: what was said of them stands
    assert main(report) == 0

    def better(rows: list[dict[str, Any]]) -> None:
        rows[2]["pred"] = "a cat"

    run(folder, translate(folder, better, replace(SAID, reviewed=5)))
    capsys.readouterr()
    assert main(report) == 2
    assert "predictions changed after they were judged" in " ".join(capsys.readouterr().err.split())
    assert main(judge) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "50.0 %" in shown
    assert "predictions zh-en by deepl, 5 of 5 reviewed" in shown


def test_the_folder_may_be_where_one_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, wanted = translate(folder).absolute(), english(folder.absolute())
    dataset = load_recipe("datasets", "pets.yaml", DatasetConfig)
    monkeypatch.chdir(folder)
    done = add_translated(Path(), file, ENGLISH, dataset, "test")
    assert done.folder.resolve() == wanted
    assert (done.translated, done.failed) == (4, 0)


def test_a_question_that_was_left_out_is_lost_and_the_rest_is_judged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_predictions(folder)
    del rows[1]
    (folder / PREDICTIONS).write_text("".join(map(to_line, rows)), encoding="utf-8")
    file = translate(folder, lambda kept: kept[1].update(pred="a bird"))
    told = refused(capsys, folder, file)
    assert "not all questions are answered" in told  # for five were asked
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps(meta | {"questions": 4}))
    assert run(folder, file) == 0
    assert "1 were not asked" in " ".join(capsys.readouterr().out.split())
    found = read_predictions(english(folder))
    assert [row["sample_id"] for row in found] == ["q0", "q1", "q2", "q3", "q4"]
    assert (found[1]["lost"], found[1]["pred"], found[2]["pred"]) == ("not asked", None, "a bird")
    assert read_meta(english(folder))["questions"] == 5


def refused(capsys: pytest.CaptureFixture[str], *args: Any) -> str:
    capsys.readouterr()
    assert run(*args) == 2
    return " ".join(capsys.readouterr().err.split())


def test_other_questions_are_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = translate(folder)
    moved = [replace(ENGLISH[0], video_id="v_b"), *ENGLISH[2:], replace(ENGLISH[1], sample_id="x")]
    write_qa_pairs(Path("pets-q.json"), Path("pets-a.json"), moved)
    told = refused(capsys, folder, file)
    assert "answered, and not in pets: q1; in pets, and not answered: x" in told
    assert "about another video: q0" in told
    assert not english(folder).exists()
    assert "no such split" in refused(capsys, folder, file, "--split", "val")
    told = refused(capsys, folder, file, "--dataset", "pets-zh.yaml")
    assert "these are the questions that were asked" in told
    assert not (folder.parent / "test.zh-en").exists()


def test_translations_of_other_answers_are_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(rows: list[dict[str, Any]]) -> None:
        rows[1]["num_tokens"] = 7  # as another run's answer to the same question has
        rows[2]["sample_id"] = "q9"

    told = refused(capsys, folder, translate(folder, other))
    assert "translations of other answers" in told
    assert "q1, q9" in told


def test_what_is_no_translation_or_was_translated_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = translate(folder, record=replace(SAID, failed=1))
    told = refused(capsys, folder, kept)
    assert "the source stands for a translation" in told
    assert "0 texts are missing, 1 have no translation" in told
    Path("translated.jsonl.translation.json").unlink()
    file = translate(folder, record=None)
    assert "no record beside it" in refused(capsys, folder, file)
    write_translation(file, ASKED)
    assert "not translated predictions" in refused(capsys, folder, file)
    write_translation(file, SAID)
    assert run(folder, file) == 0
    told = refused(capsys, english(folder), file)
    assert "these answers were translated already" in told
