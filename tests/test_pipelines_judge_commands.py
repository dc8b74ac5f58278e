"""Answers that are there, judged again through the command line's own functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_server import BatchServer, completion, done, fresh_key, well

from eval.folders import read_judged, read_predictions
from eval.judges.base import read_verdicts
from features.errors import ConfigError, RedVillmError
from pipelines.evaluation import Judging
from pipelines.judge_commands import (
    ExportOptions,
    ImportOptions,
    JudgedOptions,
    JudgeOptions,
    run_export,
    run_import,
    run_judge,
    run_judged,
)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe of four questions about two videos, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    asked = [
        {"video_name": "ab"[n // 2], "question_id": f"q{n}", "question": f"what {n}"}
        for n in range(4)
    ]
    replies = [{"question_id": f"q{n}", "answer": "a dog", "type": 0} for n in range(4)]
    (tmp_path / "q.json").write_text(json.dumps(asked))
    (tmp_path / "a.json").write_text(json.dumps(replies))
    split = {"format": "qa-pairs", "questions": "q.json", "answers": "a.json", "id_prefix": "v_"}
    recipe = {"name": "pets", "videos": ".", "splits": {"test": split}}
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump(recipe))
    return "pets.yaml"


def published(folder: Path, preds: list[str]) -> Path:
    rows = [
        {"video_name": "ab"[n // 2], "Q": f"what {n}", "A": "a dog", "pred": pred}
        for n, pred in enumerate(preds)
    ]
    (folder / "theirs.json").write_text(json.dumps(rows))
    return folder / "theirs.json"


def judging(tmp_path: Path, **facts: Any) -> Judging:
    return Judging(judge_cache=tmp_path / "cache", **facts)


def test_a_published_file_is_imported_and_judged(
    tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = published(tmp_path, ["the dog", "cat", "dog", "dog"])
    assert run_judge(JudgeOptions(file, dataset), judging(tmp_path)) == 0
    folder = tmp_path / "runs" / "pets" / "theirs" / "eval" / "pets" / "test"
    (judge,) = (folder / "judges").iterdir()
    found = read_judged(judge)
    assert [(v.sample_id, v.correct) for v in found.verdicts] == [
        ("q0", True),
        ("q1", False),
        ("q2", True),
        ("q3", True),
    ]
    out = capsys.readouterr().out
    assert "4 answers" in out
    assert "75.0 %" in out
    # the folder itself is judged again, by its path
    assert run_judge(JudgeOptions(folder), judging(tmp_path)) == 0


def test_questions_without_an_answer_are_lost_and_forbid_a_headline(
    tmp_path: Path, dataset: str
) -> None:
    file = published(tmp_path, ["dog", "dog", "dog"])
    assert run_judge(JudgeOptions(file, dataset), judging(tmp_path)) == 2
    assert run_judge(JudgeOptions(file, dataset), judging(tmp_path, min_coverage=0.75)) == 0
    (path,) = tmp_path.glob("runs/**/verdicts.jsonl")
    assert [(v.outcome, v.reason) for v in read_verdicts(path)][3] == ("lost", "no-prediction")


def test_other_aspects_than_the_recipe_s(tmp_path: Path, dataset: str) -> None:
    file = published(tmp_path, ["dog", "dog", "dog", "dog"])
    options = JudgeOptions(file, dataset, run=tmp_path / "run", aspects="detail temporal")
    assert run_judge(options, judging(tmp_path)) == 0
    (path,) = tmp_path.glob("run/**/verdicts.jsonl")
    assert {v.aspect for v in read_verdicts(path)} == {"detail", "temporal"}
    with pytest.raises(ConfigError, match=r"no such aspect.*did you mean temporal"):
        run_judge(JudgeOptions(file, dataset, aspects="temporl"), judging(tmp_path))


def test_what_is_not_said_is_asked_for(tmp_path: Path, dataset: str) -> None:
    file = published(tmp_path, ["dog"])
    with pytest.raises(ConfigError, match=r"whose questions.*--dataset"):
        run_judge(JudgeOptions(file), judging(tmp_path))
    with pytest.raises(ConfigError, match="no such split"):
        run_import(ImportOptions(file, dataset, "val"))
    with pytest.raises(ConfigError, match="only endpoints take batches"):
        run_judge(JudgeOptions(file, dataset, batch="write"), judging(tmp_path))
    run_import(ImportOptions(file, dataset))
    folder = "runs/pets/theirs/eval/pets/test"
    with pytest.raises(ConfigError, match=f"no answers there.*take {folder}"):
        run_judge(JudgeOptions(Path("runs/pets/theirs")), judging(tmp_path))


def test_export_and_import_by_command(
    tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_import(ImportOptions(published(tmp_path, ["dog", "cat", "cow"]), dataset))
    first = tmp_path / "runs/pets/theirs/eval/pets/test"
    run_export(ExportOptions(first, tmp_path / "ours.json", "activitynet", dataset))
    assert "1 lost questions are left out" in capsys.readouterr().out
    run_import(ImportOptions(tmp_path / "ours.json", dataset, run=tmp_path / "again"))
    second = tmp_path / "again/eval/pets/test"
    assert read_predictions(first) == read_predictions(second)
    with pytest.raises(RedVillmError, match="no such dataset"):  # `pets` is no recipe of ours
        run_export(ExportOptions(first, tmp_path / "ours.json"))


def test_judgements_of_the_published_scripts_are_one_more_judge(
    tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_import(ImportOptions(published(tmp_path, ["dog", "cat", "dog", "cow"]), dataset))
    folder = tmp_path / "runs/pets/theirs/eval/pets/test"
    said = [("yes", 5), ("no", 1), ("yes", 4.8), ("yes", 2)]
    results = {
        f"{'ab'[n // 2]}_{n % 2}": [
            {"pred": pred, "score": score},
            {"q": f"what {n}", "a": "a dog", "pred": ["dog", "cat", "dog", "cow"][n]},
        ]
        for n, (pred, score) in enumerate(said)
    }
    (tmp_path / "r.json").write_text(json.dumps(results))
    options = JudgedOptions(folder, f"qa={tmp_path / 'r.json'}", "gpt-3.5-turbo 2023", dataset)
    assert run_judged(options) == 0
    assert "75.0 % (gpt-3.5-turbo 2023, pets test)" in capsys.readouterr().out
    (judge,) = (folder / "judges").iterdir()
    summary = json.loads((judge / "summary.json").read_text())["scores"]["qa"]["all"]
    assert summary["score"] == pytest.approx((5 + 1 + 4.8 + 2) / 4)
    assert summary["contradictions"] == 1  # yes, with a score of 2
    # a run that was cut off: three of four
    del results["b_1"]
    (tmp_path / "r.json").write_text(json.dumps(results))
    assert run_judged(options) == 2
    with pytest.raises(ConfigError, match=r"not judged for this.*detail=r.json.*wanted: qa"):
        run_judged(JudgedOptions(folder, "detail=r.json", "x", dataset))
    with pytest.raises(ConfigError, match="no such aspect"):
        run_judged(JudgedOptions(folder, "r.json", "x", dataset))


def test_a_batch_from_writing_to_the_headline(
    tmp_path: Path,
    dataset: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fresh_key())
    file = published(tmp_path, ["dog", "cat", "dog", "dog"])
    with BatchServer() as server:
        recipe = {"kind": "endpoint", "model": "judge-1", "base_url": server.url, "timeout": 20}
        (tmp_path / "far.yaml").write_text(yaml.safe_dump(recipe))
        asked = judging(tmp_path, judge="far.yaml")
        assert run_judge(JudgeOptions(file, dataset, batch="write"), asked) == 0
        out = capsys.readouterr().out
        assert "1 files to hand in" in out
        assert "4 requests" in out
        assert not server.log
        assert run_judge(JudgeOptions(file, dataset, batch="submit"), asked) == 0
        assert run_judge(JudgeOptions(file, dataset, batch="collect"), asked) == 0
        out = capsys.readouterr().out
        assert "1 files handed in" in out
        assert "validating, 0 of 4" in out
        assert "%" not in out
        # asked live now, all four would be paid for twice
        assert run_judge(JudgeOptions(file, dataset), asked) == 2
        out = capsys.readouterr().out
        assert "under way in a batch" in out
        assert "4 of 4 requests" in out
        server.finish()
        assert run_judge(JudgeOptions(file, dataset, batch="collect"), asked) == 0
        assert "100.0 %" in capsys.readouterr().out
        assert len(server.batches) == 1
        assert "POST /chat/completions" not in server.log


def test_an_estimate_sends_and_writes_nothing(
    tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with BatchServer() as server:
        recipe = {"kind": "endpoint", "model": "judge-1", "base_url": server.url}
        (tmp_path / "far.yaml").write_text(yaml.safe_dump(recipe))
        file = published(tmp_path, ["dog", "cat", "dog", "dog"])
        asked = judging(tmp_path, judge="far.yaml", estimate=True)
        assert run_judge(JudgeOptions(file, dataset), asked) == 0
        assert not server.log
    assert "4 requests" in capsys.readouterr().out
    assert not list(tmp_path.glob("runs/**/judges"))


def recipe_of(folder: Path, name: str, **facts: Any) -> None:
    recipe = {"kind": "endpoint", "model": "judge-1", "timeout": 20, "attempts": 1, **facts}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))


def imported(folder: Path, dataset: str) -> Path:
    file = published(folder, ["dog", "cat", "dog", "dog"])
    run_import(ImportOptions(file, dataset))
    return folder / "runs/pets/theirs/eval/pets/test"


def test_a_judge_that_fails_stops_no_other(
    tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = imported(tmp_path, dataset)
    with BatchServer() as server:
        server.status = 401
        recipe_of(tmp_path, "far", base_url=server.url)
        assert run_judge(JudgeOptions(folder), judging(tmp_path, judge="far.yaml offline")) == 2
    out = capsys.readouterr().out
    assert "failed: " in out
    assert "75.0 %" in out
    assert len(list(folder.glob("judges/*/summary.json"))) == 1


def test_a_collection_says_what_is_left_and_refuses_a_headline(
    tmp_path: Path,
    dataset: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fresh_key())
    folder = imported(tmp_path, dataset)

    def step(name: Any) -> tuple[int, str]:
        code = run_judge(JudgeOptions(folder, batch=name), judging(tmp_path, judge="far.yaml"))
        return code, capsys.readouterr().out

    def answer(row: Any) -> Any:
        """One is refused each time it is asked, and at first one has no answer."""
        said = row["body"]["messages"][1]["content"]
        if "what 1" in said:
            return done(row, completion(row["body"], "", refusal="no"))
        return None if "what 2" in said and len(server.batches) == 1 else well(row)

    with BatchServer() as server:
        recipe_of(tmp_path, "far", base_url=server.url, reask_failed=True)
        step("write")
        assert "requests are left" not in step("collect")[1]  # they are in a file
        step("submit")
        server.finish(answer)
        code, out = step("collect")
        assert "1 requests are left: run write again" in out
        assert "%" not in out
        step("write")
        step("submit")
        server.finish(answer)
        code, out = step("collect")
        assert "requests are left" not in out  # what was refused again is not asked for ever
        assert (code, "POST /chat/completions" in server.log) == (2, False)
        assert len(list(folder.glob("judges/*/summary.json"))) == 1


@pytest.mark.parametrize("split", ["test+test", ""])
def test_a_file_answers_one_split(tmp_path: Path, dataset: str, split: str) -> None:
    file = published(tmp_path, ["dog"])
    with pytest.raises(ConfigError, match=r"no such split.*one split"):
        run_judge(JudgeOptions(file, dataset, split), judging(tmp_path))
    with pytest.raises(ConfigError, match=r"no such split.*one split"):
        run_import(ImportOptions(file, dataset, split))


def test_an_aspect_is_named_once(tmp_path: Path, dataset: str) -> None:
    file = published(tmp_path, ["dog"])
    with pytest.raises(ConfigError, match=r"named twice.*qa detail qa"):
        run_judge(JudgeOptions(file, dataset, aspects="qa detail qa"), judging(tmp_path))
    folder = imported(tmp_path, dataset)
    with pytest.raises(ConfigError, match="named twice"):
        run_judged(JudgedOptions(folder, "qa=a.json qa=b.json", "x", dataset))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"aspects": "detail"}, "--aspects"),
        ({"dataset": "pets.yaml", "split": "val"}, "--dataset --split"),
        ({"run": Path("other")}, "--run"),
    ],
)
def test_a_folder_says_itself_what_it_answers(
    tmp_path: Path, dataset: str, options: dict[str, Any], wanted: str
) -> None:
    folder = imported(tmp_path, dataset)
    with pytest.raises(ConfigError, match=f"only a file of answers.*got: {wanted} "):
        run_judge(JudgeOptions(folder, **options), judging(tmp_path))


def test_a_path_that_is_not_there(tmp_path: Path, dataset: str) -> None:
    for options in (JudgeOptions(Path("none.json")), JudgeOptions(Path("none"), dataset)):
        with pytest.raises(ConfigError, match=r"no such file or folder.*none"):
            run_judge(options, judging(tmp_path))


def test_answers_to_own_data_name_their_recipe(tmp_path: Path, dataset: str) -> None:
    folder = imported(tmp_path, dataset)
    with pytest.raises(ConfigError, match=r"whose answers.*pets: no such dataset.*FILE\.yaml"):
        run_export(ExportOptions(folder, tmp_path / "ours.json"))
    with pytest.raises(ConfigError, match=r"whose answers.*FILE\.yaml"):
        run_judged(JudgedOptions(folder, "qa=r.json", "x"))


def test_aspects_that_are_read_one_after_the_other_stay(tmp_path: Path, dataset: str) -> None:
    file = published(tmp_path, ["dog", "dog", "dog", "dog"])
    run_judge(JudgeOptions(file, dataset, aspects="detail temporal"), judging(tmp_path))
    folder = tmp_path / "runs/pets/theirs/eval/pets/test"
    for aspect, score in (("detail", 3), ("temporal", 2), ("detail", 4)):
        asked = [{"q": f"what {n}", "a": "a dog", "pred": "dog"} for n in range(4)]
        said = {f"{'ab'[n // 2]}_{n % 2}": [{"score": score}, asked[n]] for n in range(4)}
        (tmp_path / "r.json").write_text(json.dumps(said))
        code = run_judged(JudgedOptions(folder, f"{aspect}=r.json", "gpt", dataset))
    assert code == 0
    (path,) = folder.glob("judges/gpt-*/verdicts.jsonl")
    found = {(v.aspect, v.score) for v in read_verdicts(path)}
    assert found == {("detail", 4.0), ("temporal", 2.0)}
    # judgements of other answers go
    rows = (folder / "predictions.jsonl").read_text()
    (folder / "predictions.jsonl").write_text(rows.replace('"type": "0"', '"type": "1"'))
    assert (folder / "predictions.jsonl").read_text() != rows
    assert run_judged(JudgedOptions(folder, "detail=r.json", "gpt", dataset)) == 2
    outcomes = {(v.aspect, v.outcome) for v in read_verdicts(path)}
    assert outcomes == {("detail", "ok"), ("temporal", "not_asked")}


def test_brackets_in_names_are_no_markup(
    tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = published(tmp_path, ["dog"])
    run_import(ImportOptions(file, dataset, run=tmp_path / "r[/INST]"))
    assert "r[/INST]" in capsys.readouterr().out


def test_the_replies_of_an_endpoint_take_no_batches(
    tmp_path: Path, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fresh_key())
    folder = imported(tmp_path, dataset)
    recipe_of(tmp_path, "far", base_url="http://127.0.0.1:9/v1")
    run_judge(JudgeOptions(folder, batch="write"), judging(tmp_path, judge="far.yaml"))
    (kept,) = (tmp_path / "cache").iterdir()
    recipe_of(tmp_path, "again", kind="replay", model=str(kept))
    with pytest.raises(ConfigError, match="only endpoints take batches"):
        run_judge(JudgeOptions(folder, batch="write"), judging(tmp_path, judge="again.yaml"))
