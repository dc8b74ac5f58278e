"""The published annotation forms, written by hand here, are read into the same samples."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from features.annotations import (
    QASample,
    annotations_digest,
    load_annotations,
    write_qa_pairs,
    write_videoinstruct,
)
from features.config import AnnotationFormat, DatasetConfig, SplitConfig
from features.errors import AnnotationError
from features.recipes import load_recipe


def save(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def load(path: Path, form: AnnotationFormat, prefix: str = "") -> list[QASample]:
    return load_annotations(SplitConfig(format=form, questions=path, id_prefix=prefix))


def turn(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def test_videoinstruct_before_and_after_conversion_are_the_same_samples(tmp_path: Path) -> None:
    before = [
        {"q": "What happens?", "a": "A dog runs.", "video_id": "v_k_ZXmr8pmrs"},
        {"q": "Where?", "a": "In a park.", "video_id": "v_k_ZXmr8pmrs"},
    ]
    after = [
        {
            "id": "v_k_ZXmr8pmrs",
            "video": "v_k_ZXmr8pmrs.pkl",
            "conversations": turn("<video>\nWhat happens?", "A dog runs."),
        },
        {
            "id": "v_k_ZXmr8pmrs",
            "video": "v_k_ZXmr8pmrs.pkl",
            "conversations": turn("Where?\n<video>", "In a park."),
        },
    ]
    wanted = [
        QASample("v_k_ZXmr8pmrs:0", "v_k_ZXmr8pmrs", "What happens?", "A dog runs."),
        QASample("v_k_ZXmr8pmrs:1", "v_k_ZXmr8pmrs", "Where?", "In a park."),
    ]
    assert load(save(tmp_path / "b.json", before), "videoinstruct") == wanted
    assert load(save(tmp_path / "a.json", after), "videoinstruct") == wanted


def test_vcgbench_files(tmp_path: Path) -> None:
    generic = save(tmp_path / "generic_qa.json", [{"Q": "q", "A": "a", "video_name": "v_1"}])
    twice = save(
        tmp_path / "consistency_qa.json",
        [{"Q1": "one?", "Q2": "other?", "A": "a", "video_name": "v_1"}],
    )
    assert load(generic, "vcgbench") == [QASample("v_1:0", "v_1", "q", "a")]
    assert load(twice, "consistency") == [QASample("v_1:0", "v_1", "one?", "a", "", "other?")]


def test_qa_pairs_join_by_question_id_whatever_the_order(tmp_path: Path) -> None:
    asked = [
        {"video_name": f"vid{i // 10}", "question_id": f"{i}_x", "question": f"q{i}"}
        for i in range(50)
    ]
    replies = [{"answer": f"a{i}", "type": i % 9, "question_id": f"{i}_x"} for i in range(50)]
    random.Random(0).shuffle(replies)
    samples = load_annotations(
        SplitConfig(
            format="qa-pairs",
            questions=save(tmp_path / "q.json", asked),
            answers=save(tmp_path / "a.json", replies),
            id_prefix="v_",
        )
    )
    assert samples == [
        QASample(f"{i}_x", f"v_vid{i // 10}", f"q{i}", f"a{i}", str(i % 9)) for i in range(50)
    ]
    dataset = load_recipe("datasets", "activitynet-qa", DatasetConfig)
    assert dataset.type_names[int(samples[2].type)] == "temporal relation"


@pytest.mark.parametrize(
    ("asked", "answered", "message"),
    [
        (["1", "2", "3"], ["1", "3"], "questions without an answer.*question_id '2'"),
        (["1"], ["1", "7"], "answers without a question.*'7'"),
        (["1"], ["1", "1"], "repeat among the answers.*'1'"),
        (["1", "1"], ["1"], "sample ids repeat.*'1'"),
    ],
)
def test_qa_pairs_that_do_not_match(
    tmp_path: Path, asked: list[str], answered: list[str], message: str
) -> None:
    questions = [{"video_name": "v", "question_id": i, "question": "q"} for i in asked]
    answers = [{"answer": "a", "type": 0, "question_id": i} for i in answered]
    split = SplitConfig(
        "qa-pairs", save(tmp_path / "q.json", questions), save(tmp_path / "a.json", answers)
    )
    with pytest.raises(AnnotationError, match=message):
        load_annotations(split)


def test_qa_pairs_need_a_file_of_answers(tmp_path: Path) -> None:
    questions = save(tmp_path / "q.json", [{"video_name": "v", "question_id": 1, "question": "q"}])
    with pytest.raises(AnnotationError, match="set `answers` of the split"):
        load(questions, "qa-pairs")


def test_tgif_is_tab_separated(tmp_path: Path) -> None:
    text = (
        "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\n"
        'tumblr_1\twhat is black, small?\tcat\t0\tFRAMEQA1\t7\t"a ""cat"" sits"\n'
        "tumblr_2\thow many men?\ttwo\t1\tFRAMEQA2\t8\ttwo men\n"
    )
    samples = load(save(tmp_path / "t.csv", text), "tgif")
    assert samples == [
        QASample("tumblr_1:0", "tumblr_1", "what is black, small?", "cat", "0"),
        QASample("tumblr_2:1", "tumblr_2", "how many men?", "two", "1"),
    ]
    dataset = load_recipe("datasets", "tgif-qa", DatasetConfig)
    assert dataset.type_names[int(samples[1].type)] == "number"
    with pytest.raises(AnnotationError, match="tab-separated columns gif_name"):
        load(save(tmp_path / "c.csv", text.replace("\t", ",")), "tgif")
    with pytest.raises(AnnotationError, match="wrong number of columns"):
        load(save(tmp_path / "s.csv", text.replace("how many", '"how many')), "tgif")
    with pytest.raises(AnnotationError, match=r"unknown TGIF question type.*'type'.*got: 9"):
        load(save(tmp_path / "k.csv", text.replace("two\t1", "two\t9")), "tgif")


def test_msvd_and_msrvtt_raw(tmp_path: Path) -> None:
    rows = [
        {"answer": "chop", "id": 4, "question": "what is he doing?", "video_id": 7010},
        {"answer": "cook", "question": "who?", "video_id": "-wa0umYJVGg_271_276"},
    ]
    assert load(save(tmp_path / "m.json", rows[:1]), "msvd", "video") == [
        QASample("4", "video7010", "what is he doing?", "chop")
    ]
    assert load(save(tmp_path / "n.json", rows[1:]), "msvd") == [
        QASample("-wa0umYJVGg_271_276:0", "-wa0umYJVGg_271_276", "who?", "cook")
    ]


def test_own_jsonl(tmp_path: Path) -> None:
    lines = [
        {"video": "day 1/clip.v2.mp4", "question": "q\u2028?", "answer": "a", "type": "colour"},
        {"video": "day 1/clip.v2", "question": "q2", "answer": "a2", "id": "mine"},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert load(save(tmp_path / "own.jsonl", text), "jsonl") == [
        QASample("day 1/clip.v2:1", "day 1/clip.v2", "q\u2028?", "a", "colour"),
        QASample("mine", "day 1/clip.v2", "q2", "a2"),
    ]


def test_own_jsonl_holds_several_splits(tmp_path: Path) -> None:
    rows = [{"video": f"v{i}", "question": "q", "answer": "a", "id": i} for i in range(3)]
    rows[1]["split"] = "test"
    path = save(tmp_path / "own.jsonl", "\n".join(json.dumps(row) for row in rows))
    found = {
        part: [s.sample_id for s in load_annotations(SplitConfig("jsonl", path, part=part))]
        for part in ("train", "test", "")
    }
    assert found == {"train": ["0", "2"], "test": ["1"], "": ["0", "1", "2"]}
    with pytest.raises(AnnotationError, match=r"no questions.*split 'val'"):
        load_annotations(SplitConfig("jsonl", path, part="val"))


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("jsonl", '{"video": "v", "question": "q"}', r"bad, row 1, video 'v', field 'answer'"),
        ("jsonl", '{"video": "v", "question": "q", "answer": " "}', "field 'answer'.*' '"),
        ("jsonl", '{"video": "v", "question": "q", "answer": null}', "field 'answer'.*None"),
        ("jsonl", '{"video": "v", "question": "q", "answer": true}', "not a text"),
        ("jsonl", '{"video": "v", "question": "q", "answers": "a"}', "unknown field.*'answers'"),
        ("jsonl", '{"video": "v"', "not valid JSON.*line 1"),
        ("jsonl", "[]", "not a JSON object.*row 1.*list"),
        ("jsonl", "\n", "no questions"),
        ("vcgbench", [{"Q": "q", "A": "a"}], "row 0, field 'video_name'"),
        ("vcgbench", {"Q": "q"}, "wanted: a JSON list"),
        ("vcgbench", '[{"Q": ', "not valid JSON"),
        ("consistency", [{"Q1": "q", "A": "a", "video_name": "v"}], "'v', field 'Q2'"),
        ("videoinstruct", [{"q": "q", "a": "", "video_id": "v_1"}], "'v_1', field 'a'"),
        (
            "videoinstruct",
            [{"id": "v", "video": "v.pkl", "conversations": turn("<video>\nq", "a") * 2}],
            "not one question and one answer",
        ),
        (
            "videoinstruct",
            [{"id": "v", "video": "v.pkl", "conversations": turn("a <video> b", "a")}],
            "one <video> at either end",
        ),
        ("msvd", [{"question": "q", "answer": "a", "id": 1, "video_id": []}], "'video_id'"),
    ],
)
def test_malformed_rows_say_where(
    tmp_path: Path, form: AnnotationFormat, content: object, message: str
) -> None:
    with pytest.raises(AnnotationError, match=message) as caught:
        load(save(tmp_path / "bad", content), form)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"cannot read annotations.*nowhere\.json"):
        load(tmp_path / "nowhere.json", "vcgbench")


def test_writers_write_the_published_forms(tmp_path: Path) -> None:
    samples = [QASample("q1", "v_a", "was ist das?", "Grün", "4"), QASample("q0", "v_b", "q", "a")]
    write_qa_pairs(tmp_path / "s/test_q.json", tmp_path / "s/test_a.json", samples, "v_")
    assert json.loads((tmp_path / "s/test_q.json").read_text("utf-8"))[0] == {
        "video_name": "a",
        "question_id": "q1",
        "question": "was ist das?",
    }
    assert json.loads((tmp_path / "s/test_a.json").read_text("utf-8"))[0] == {
        "answer": "Grün",
        "type": "4",
        "question_id": "q1",
    }
    split = SplitConfig(
        "qa-pairs", tmp_path / "s/test_q.json", tmp_path / "s/test_a.json", id_prefix="v_"
    )
    assert load_annotations(split) == samples
    write_videoinstruct(tmp_path / "vi.json", samples)
    assert json.loads((tmp_path / "vi.json").read_text("utf-8"))[1] == {
        "q": "q",
        "a": "a",
        "video_id": "v_b",
    }


def test_digest_ignores_order_and_sees_every_field() -> None:
    one, two = QASample("1", "v", "q", "a"), QASample("2", "v", "q", "a", "", "q'")
    assert annotations_digest([one, two]) == annotations_digest([two, one])
    assert annotations_digest([one]) != annotations_digest([QASample("1", "v", "q", "a", "t")])
