"""What answers and verdicts depend on: shared once, else by run, and warned of where it matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from judged_runs import MODEL, OFFLINE, TEST, answer_rows, build, cells, exactly, one, save_judged

from eval.report.build import NamedRun, Part
from features.spec import SCHEMA_VERSION

RED = ["red"] * 4
META: dict[str, Any] = {
    "prompt": "USER: {question}",
    "video_order": "video-first",
    "temperature": 0.0,
    "top_k": 50,
    "sampling_seed": 0,
    "max_new_tokens": 256,
    "batch_size": 32,
    "device": "cuda",
    "dtype": "float16",
    "engine": "torch",
    "versions": {"torch": "2.9.1", "transformers": "4.57.1"},
}


def save(run: Path, part: Part = TEST, **meta: Any) -> Path:
    return save_judged(run, answer_rows(RED), part=part, **META | meta)


def test_settings_of_all_runs_are_said_once(tmp_path: Path) -> None:
    runs = [one("a", save(tmp_path / "a")), one("b", save(tmp_path / "b"))]
    report = build(runs, tmp_path / "out")
    assert report["warnings"] == []
    assert report["fingerprints"] == {
        "checkpoint of a": "c-a",
        "checkpoint of b": "c-b",
        "base": "b",
        "prompt": "USER: {question}",
        "video_order": "video-first",
        "spec": "s",
        "temperature": "0.0",
        "top_k": "50",
        "sampling_seed": "0",
        "max_new_tokens": "256",
        "batch_size": "32",
        "device": "cuda",
        "dtype": "float16",
        "engine": "torch",
        "versions": "torch 2.9.1, transformers 4.57.1",
        "features": "f",
        "annotations": "a1",
        f"judge {OFFLINE.label}": OFFLINE.digest,
        f"settings of judge {OFFLINE.label}": (
            "kind offline, temperature 0.0, max_tokens 0, structured False, language en"
        ),
    }
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert "## Warnings" not in text
    assert ["batch\\_size", "32"] in cells(text, "## Fingerprints")


def test_settings_that_differ_are_said_of_each_run_and_warned_of(tmp_path: Path) -> None:
    sampled = {"temperature": 0.2, "max_new_tokens": 1024, "batch_size": 8}
    seeds = (save(tmp_path / "b1", **sampled), save(tmp_path / "b2", **sampled, top_k=40))
    report = build([one("a", save(tmp_path / "a")), NamedRun("b", seeds)], tmp_path / "out")
    found = report["fingerprints"]
    assert found["dtype"] == "float16"
    assert "temperature" not in found  # it would look as if it held for both
    assert {k: v for k, v in found.items() if k.startswith(("temperature", "batch_size"))} == {
        "temperature of a": "0.0",
        "temperature of b (seed 1)": "0.2",
        "temperature of b (seed 2)": "0.2",
        "batch_size of a": "32",
        "batch_size of b (seed 1)": "8",
        "batch_size of b (seed 2)": "8",
    }
    (warning,) = report["warnings"]
    assert warning == (
        "demo, test: answers were decoded differently: "
        "temperature 0.0 (a), 0.2 (b (seed 1), b (seed 2)); "
        "top_k 50 (b (seed 1)), 40 (b (seed 2)); "
        "max_new_tokens 256 (a), 1024 (b (seed 1), b (seed 2))"
    )
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert (
        "\n## Warnings\n\n- demo, test: answers were decoded differently: temperature 0.0" in text
    )


def test_k_says_nothing_where_the_likeliest_token_is_taken(tmp_path: Path) -> None:
    runs = [one("a", save(tmp_path / "a")), one("b", save(tmp_path / "b", top_k=40))]
    report = build(runs, tmp_path / "out")
    assert report["warnings"] == []
    assert report["fingerprints"]["top_k of b"] == "40"


def test_a_setting_that_changes_from_part_to_part_names_the_part(tmp_path: Path) -> None:
    val = Part("demo", "val")
    run = save(tmp_path / "a")
    save(run, part=val, dtype="float32", annotations="a2")
    report = build([one("a", run)], tmp_path / "out", TEST, val)
    found = report["fingerprints"]
    assert found["dtype of a (demo, test)"] == "float16"
    assert found["dtype of a (demo, val)"] == "float32"
    assert found["annotations (demo, test)"] == "a1"
    assert found["annotations (demo, val)"] == "a2"
    assert found["features (demo)"] == "f"
    assert found["checkpoint of a"] == "c-a"
    assert report["warnings"] == []  # each table is of one dtype


def test_published_answers_have_their_digest_alone_and_a_warning(tmp_path: Path) -> None:
    run = save(tmp_path / "p", source="answers.json", source_sha256="5" * 64)
    meta = run / "eval/demo/test/predictions.meta.json"
    meta.write_text(
        """{"schema": 3, "dataset": "demo", "split": "test", "annotations": "a1", "aspects": ["qa"],
        "type_names": [], "source": "answers.json", "source_sha256": "55"}""".replace(
            '"schema": 3', f'"schema": {SCHEMA_VERSION}'
        )
    )
    runs = [one("a", save(tmp_path / "a")), one("theirs", run)]
    report = build(runs, tmp_path / "out")
    found = report["fingerprints"]
    assert found["published answers of theirs"] == "55"
    assert {name for name in found if "theirs" in name} == {"published answers of theirs"}
    assert found["temperature"] == "0.0"
    assert report["warnings"] == ["demo, test: how answers were decoded is not recorded of theirs"]
    assert report["cost"][1]["generate_s"] is None


def test_a_judge_is_described(tmp_path: Path) -> None:
    run = save_judged(tmp_path / "r", answer_rows(RED), judges=[(MODEL, exactly)])
    found = build([one("r", run)], tmp_path / "out")["fingerprints"]
    assert found[f"settings of judge {MODEL.label}"] == (
        "kind endpoint, endpoint localhost, temperature 0.0, max_tokens 0, structured False, "
        f"language en, rubric {'ab' * 32}"
    )
