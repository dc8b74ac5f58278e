"""Published prediction files, both ways; what their scorers read is read here once more."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eval.folders import META, PREDICTIONS, read_meta, read_predictions
from eval.formats import Form, export_predictions, import_predictions
from eval.judged_formats import read_judgements
from eval.judges.base import Verdict
from features.annotations import annotations_digest, load_annotations
from features.config import DatasetConfig, SplitConfig
from features.errors import RedVillmError


def split_of(folder: Path, form: Form, repeats: int = 1) -> tuple[DatasetConfig, SplitConfig]:
    """Annotations in the published form: 2 videos of 2 questions, twice the same if asked."""
    if form == "vcgbench":
        rows = [
            {"video_name": f"v_{v}", "Q1": f"what {q}?", "Q2": f"which {q}?", "A": "a dog."}
            for v in "ab"
            for q in range(2)
        ] * repeats
        (folder / "q.json").write_text(json.dumps(rows))
        split = SplitConfig("consistency", folder / "q.json", aspects=("consistency",))
    else:
        names = [(v, q) for _ in range(repeats) for v in "ab" for q in range(2)]
        asked = [
            {"video_name": v, "question_id": f"{v}{n}", "question": f"what {q}"}
            for n, (v, q) in enumerate(names)
        ]
        replies = [
            {"answer": ["yes", "红色"][q], "type": q, "question_id": f"{v}{n}"}
            for n, (v, q) in enumerate(names)
        ]
        (folder / "q.json").write_text(json.dumps(asked))
        (folder / "a.json").write_text(json.dumps(replies[::-1]))
        split = SplitConfig("qa-pairs", folder / "q.json", folder / "a.json", id_prefix="v_")
    return DatasetConfig("set", folder, {"test": split}, ("motion", "color")), split


def answered(folder: Path, split: SplitConfig, lost: int | None = None) -> Path:
    """An evaluation folder as `generate` leaves it: in an order of its own."""
    folder.mkdir()
    samples = load_annotations(split)
    rows: list[dict[str, Any]] = []
    for n, s in enumerate(samples):
        gone = n == lost
        pair = s.question2 is not None
        rows.append(
            {
                "sample_id": s.sample_id,
                "video_id": s.video_id,
                "type": s.type,
                "question": s.question,
                "question2": s.question2,
                "answer": s.answer,
                "pred": None if gone else f" pred {n}, 是 ",
                "pred2": f"second {n}" if pair and not gone else None,
                "lost": "truncated" if gone else None,
                "finish_reason": None if gone else "stop",
                "finish_reason2": "stop" if pair and not gone else None,
                "num_tokens": None if gone else 3,
                "num_tokens2": 2 if pair and not gone else None,
            }
        )
    random.Random(3).shuffle(rows)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / PREDICTIONS).write_text(lines, encoding="utf-8")
    meta = {"schema": 1, "annotations": annotations_digest(samples), "dataset": "set"}
    (folder / META).write_text(json.dumps(meta))
    return folder


FORMS: list[Form] = ["qa", "activitynet", "vcgbench"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("repeats", [1, 3])
def test_export_and_import_are_each_others_inverse(
    tmp_path: Path, form: Form, lines: bool, repeats: int
) -> None:
    dataset, split = split_of(tmp_path, form, repeats)
    ours = answered(tmp_path / "ours", split, lost=None)
    assert export_predictions(ours, tmp_path / "out.json", form, split) == 0
    file = tmp_path / "out.json"
    if lines:  # as later projects write the same rows
        rows = json.loads(file.read_text("ascii"))
        file = tmp_path / "out.jsonl"
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    samples = load_annotations(split)
    summary = import_predictions(file, samples, dataset, "test", tmp_path / "theirs")
    assert (summary.answered, summary.missing) == (len(samples), 0)
    unsaid = ("finish_reason", "finish_reason2", "num_tokens", "num_tokens2")
    wanted = {row["sample_id"]: row | dict.fromkeys(unsaid, None) for row in read_predictions(ours)}
    got = read_predictions(tmp_path / "theirs")
    assert {row["sample_id"]: row for row in got} == wanted
    assert [row["sample_id"] for row in got] == [s.sample_id for s in samples]
    export_predictions(tmp_path / "theirs", tmp_path / "again.json", form, split)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out.json").read_bytes()


def test_the_meta_file_says_where_answers_come_from(tmp_path: Path) -> None:
    dataset, split = split_of(tmp_path, "qa")
    ours = answered(tmp_path / "ours", split)
    export_predictions(ours, tmp_path / "out.json", "qa", split)
    samples = load_annotations(split)
    import_predictions(tmp_path / "out.json", samples, dataset, "test", tmp_path / "theirs")
    meta = read_meta(tmp_path / "theirs")
    assert set(meta) == {
        *("schema", "dataset", "split", "annotations", "questions", "aspects", "type_names"),
        *("translations", "source", "source_sha256"),
    }
    assert meta["aspects"] == ["qa"]
    assert meta["type_names"] == ["motion", "color"]
    assert meta["source"] == "out.json"
    # the same file again changes nothing, another one is refused
    before = (tmp_path / "theirs" / PREDICTIONS).read_bytes()
    import_predictions(tmp_path / "out.json", samples, dataset, "test", tmp_path / "theirs")
    assert (tmp_path / "theirs" / PREDICTIONS).read_bytes() == before
    for taken in ("theirs", "ours"):
        (tmp_path / "out.json").write_text((tmp_path / "out.json").read_text() + "\n")
        with pytest.raises(RedVillmError, match="other answers already"):
            import_predictions(tmp_path / "out.json", samples, dataset, "test", tmp_path / taken)


@pytest.mark.parametrize("form", FORMS)
def test_lost_questions_are_left_out_and_counted_on_both_ways(tmp_path: Path, form: Form) -> None:
    dataset, split = split_of(tmp_path, form)
    ours = answered(tmp_path / "ours", split, lost=1)
    assert export_predictions(ours, tmp_path / "out.json", form, split) == 1
    assert len(json.loads((tmp_path / "out.json").read_text())) == 3
    samples = load_annotations(split)
    summary = import_predictions(
        tmp_path / "out.json", samples, dataset, "test", tmp_path / "theirs"
    )
    assert (summary.answered, summary.missing) == (3, 1)
    lost = [row for row in read_predictions(tmp_path / "theirs") if row["lost"]]
    assert [(row["sample_id"], row["pred"], row["lost"]) for row in lost] == [
        (samples[1].sample_id, None, "no-prediction")
    ]


def scripts_of_video_chatgpt(file: Path, keys: dict[str, str]) -> dict[str, dict[str, str]]:
    """What each of its scorers makes of a file of predictions: names of files, fields by key."""
    counts: Counter[str] = Counter()
    found = {}
    for sample in json.loads(file.read_bytes().decode("ascii")):
        video = sample["video_name"]
        found[f"{video}_{counts[video]}"] = {short: sample[key] for short, key in keys.items()}
        counts[video] += 1
    return found


def test_the_published_scorer_of_activitynet_qa_reads_our_file(tmp_path: Path) -> None:
    _, split = split_of(tmp_path, "activitynet")
    export_predictions(answered(tmp_path / "o", split), tmp_path / "p.json", "activitynet", split)
    keys = {"q": "Q", "a": "A", "pred": "pred"}
    assert scripts_of_video_chatgpt(tmp_path / "p.json", keys) == {
        "a_0": {"q": "what 0", "a": "yes", "pred": " pred 0, 是 "},
        "a_1": {"q": "what 1", "a": "红色", "pred": " pred 1, 是 "},
        "b_0": {"q": "what 0", "a": "yes", "pred": " pred 2, 是 "},
        "b_1": {"q": "what 1", "a": "红色", "pred": " pred 3, 是 "},
    }


def test_the_published_scorer_of_consistency_reads_our_file(tmp_path: Path) -> None:
    _, split = split_of(tmp_path, "vcgbench")
    export_predictions(answered(tmp_path / "o", split), tmp_path / "p.json", "vcgbench", split)
    keys = {"q1": "Q1", "q2": "Q2", "a": "A", "pred1": "pred1", "pred2": "pred2"}
    found = scripts_of_video_chatgpt(tmp_path / "p.json", keys)
    assert list(found) == ["v_a_0", "v_a_1", "v_b_0", "v_b_1"]
    assert found["v_b_0"] == {
        "q1": "what 0?",
        "q2": "which 0?",
        "a": "a dog.",
        "pred1": " pred 2, 是 ",
        "pred2": "second 2",
    }


def test_the_zero_shot_form_has_the_four_published_keys(tmp_path: Path) -> None:
    _, split = split_of(tmp_path, "qa")
    export_predictions(answered(tmp_path / "o", split), tmp_path / "p.json", "qa", split)
    assert json.loads((tmp_path / "p.json").read_text())[3] == {
        "id": "b3",
        "question": "what 1",
        "answer": "红色",
        "pred": " pred 3, 是 ",
    }


def test_export_refuses_what_the_file_would_not_say(tmp_path: Path) -> None:
    _, split = split_of(tmp_path, "vcgbench")
    ours = answered(tmp_path / "ours", split)
    with pytest.raises(RedVillmError, match="no place for second answers"):
        export_predictions(ours, tmp_path / "out.json", "qa", split)
    lines = (ours / PREDICTIONS).read_text("utf-8").splitlines(keepends=True)
    (ours / PREDICTIONS).write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(RedVillmError, match="not all is answered"):
        export_predictions(ours, tmp_path / "out.json", "vcgbench", split)
    split.questions.write_text(split.questions.read_text().replace("dog", "cat"))
    with pytest.raises(RedVillmError, match="annotations differs"):
        export_predictions(ours, tmp_path / "out.json", "vcgbench", split)
    assert not (tmp_path / "out.json").exists()


QA = {"question": "what 0", "answer": "yes", "pred": "p"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([QA | {"id": "a0"}, QA | {"id": "z9"}], r"not asked \| got: z9 \(.*row 1\)"),
        ([QA | {"id": "a0"}, QA | {"id": "a0"}], r"two predictions for one question.*row 1"),
        # ids and texts joined by position, one row off
        ([QA | {"id": "a1", "answer": "红色"}], r"something else under this id.*id a1"),
        ([QA | {"id": "a0", "answer": "no"}], r"something else under this id.*got: no.*wanted: ye"),
        # no id of ours and no video: two videos have these words
        ([QA | {"id": 0}], "open which question"),
        ([QA | {"video_name": "c"}], r"not asked.*'what 0' \(.*row 0\)"),
        ([QA | {"video_name": "a", "answer": "no"}], "not asked"),
        ([QA | {"video_name": "a"}, QA | {"video_name": "v_a"}], "more predictions than questions"),
        ([{"id": "a0", "question": "what 0", "answer": "yes"}], r"not a prediction.*row 0.*pred"),
        ([QA | {"pred": ["p"]}], "not a prediction"),
        ([QA | {"Q2": "which"}], "two questions need two answers"),
        (["p"], "not a prediction"),
        ({"a0": "p"}, "not a prediction"),
    ],
)
def test_a_file_that_does_not_say_what_it_answers_is_refused(
    tmp_path: Path, rows: Any, message: str
) -> None:
    dataset, split = split_of(tmp_path, "qa")
    (tmp_path / "p.json").write_text(json.dumps(rows))
    with pytest.raises(RedVillmError, match=message):
        import_predictions(
            tmp_path / "p.json", load_annotations(split), dataset, "test", tmp_path / "new"
        )
    assert not (tmp_path / "new").exists()


def test_a_file_in_any_order_without_our_ids_is_joined_by_what_was_asked(tmp_path: Path) -> None:
    dataset, split = split_of(tmp_path, "qa")
    rows = [
        {"id": 7, "question": "What 1?", "answer": "红色", "pred": "wrong words"},
        {"id": 8, "video_name": "v_b", "question": "what 1", "answer": "红色", "pred": "p3"},
        {"id": 9, "video_name": "a", "question": "what 0", "answer": "yes", "pred": ""},
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows[1:]))
    samples = load_annotations(split)
    summary = import_predictions(tmp_path / "p.json", samples, dataset, "test", tmp_path / "new")
    assert (summary.answered, summary.missing) == (2, 2)
    got = {row["sample_id"]: row["pred"] for row in read_predictions(tmp_path / "new")}
    assert got == {"a0": "", "a1": None, "b2": None, "b3": "p3"}


def test_ids_are_ours_though_the_file_says_questions_a_little_otherwise(tmp_path: Path) -> None:
    dataset, split = split_of(tmp_path, "qa")
    row = {"question_id": "b3", "question": "What 1?", "answer": "红色。", "pred": "p"}
    (tmp_path / "p.json").write_text(json.dumps([row]))
    samples = load_annotations(split)
    import_predictions(tmp_path / "p.json", samples, dataset, "test", tmp_path / "new")
    got = {row["sample_id"]: row["pred"] for row in read_predictions(tmp_path / "new")}
    assert got == {"a0": None, "a1": None, "b2": None, "b3": "p"}


SAID = [{"pred": "yes", "score": 4.8}, {"pred": "No.", "score": "2"}, {"pred": "maybe", "score": 3}]


@pytest.mark.parametrize("joined", [False, True])
def test_published_judgements_become_verdicts_of_what_they_judged(
    tmp_path: Path, joined: bool
) -> None:
    _, split = split_of(tmp_path, "activitynet")
    ours = answered(tmp_path / "ours", split, lost=0)
    # with the first row lost, the scripts call our a1 "a_0": only its content says what it is
    export_predictions(ours, tmp_path / "p.json", "activitynet", split)
    keys = {"q": "Q", "a": "A", "pred": "pred"}
    sets = scripts_of_video_chatgpt(tmp_path / "p.json", keys)
    files = {name: [said, qa] for (name, qa), said in zip(sorted(sets.items()), SAID, strict=True)}
    assert list(files) == ["a_0", "b_0", "b_1"]
    where = tmp_path / ("all.json" if joined else "files")
    if joined:
        where.write_text(json.dumps(files))
    else:
        where.mkdir()
        for name, content in files.items():
            (where / f"{name}.json").write_text(json.dumps(content))
    got = {v.sample_id: v for v in read_judgements(where, ours, "qa", "v_")}
    reason = "no score of 0 to 5, or no yes or no"
    assert got == {
        "a0": Verdict("a0", "qa", "lost", reason="truncated"),
        "a1": Verdict("a1", "qa", "ok", True, 4.8, '{"pred": "yes", "score": 4.8}'),
        "b2": Verdict("b2", "qa", "ok", False, 2.0, '{"pred": "No.", "score": "2"}'),
        "b3": Verdict(
            "b3", "qa", "parse_failure", reply='{"pred": "maybe", "score": 3}', reason=reason
        ),
    }


def test_published_judgements_of_an_aspect(tmp_path: Path) -> None:
    _, split = split_of(tmp_path, "vcgbench")
    ours = answered(tmp_path / "ours", split)
    qa = {"q1": "what 1?", "q2": "which 1?", "a": "a dog.", "pred1": " pred 1, 是 "}
    files = {
        "v_a_1": [{"score": 4.8}, qa | {"pred2": "second 1"}],
        "v_b_7": [{"score": 6}, qa | {"pred1": " pred 3, 是 ", "pred2": "second 3"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(files))
    got = {v.sample_id: v for v in read_judgements(tmp_path / "all.json", ours, "consistency")}
    assert got["v_a:1"] == Verdict("v_a:1", "consistency", "ok", None, 4.8, '{"score": 4.8}')
    assert got["v_b:3"].outcome == "parse_failure"
    assert got["v_b:3"].score is None
    assert (got["v_a:0"].outcome, got["v_b:2"].outcome) == ("not_asked", "not_asked")
    files["v_a_1"][1]["pred2"] = "somebody else's"
    (tmp_path / "all.json").write_text(json.dumps(files))
    with pytest.raises(RedVillmError, match="another answer than ours"):
        read_judgements(tmp_path / "all.json", ours, "consistency")
