"""Every form of annotations and predictions: its texts, and the same form written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pseudo_translation import hard_lines, pseudo

from eval.answer_files import to_line
from eval.folders import prediction_row, read_rows
from features.annotations import QASample, load_annotations
from features.config import SplitConfig
from features.errors import AnnotationError
from pipelines.translate.files import find_form, read_document

CONVERTED = [
    {
        "id": "v_1",
        "video": "v_1.pkl",
        "conversations": [
            {"from": "human", "value": "What jumps?\n<video>"},
            {"from": "gpt", "value": " A cat. "},
        ],
    },
    {
        "id": "v_2",
        "video": "v_2.pkl",
        "conversations": [
            {"from": "human", "value": "<video>\nWho sings?"},
            {"from": "gpt", "value": "She."},
        ],
    },
]
JSON_FORMS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "videoinstruct": (
        [{"q": "What jumps?", "a": "A cat.", "video_id": "v_1"}],
        ["What jumps?", "A cat."],
    ),
    "converted": (CONVERTED, ["What jumps?", "A cat.", "Who sings?", "She."]),
    "vcgbench": ([{"Q": "What?", "A": "Cats.", "video_name": "v_1"}], ["What?", "Cats."]),
    "consistency": (
        [{"Q1": "What?", "Q2": "Which?", "A": "Cats.", "video_name": "v_1"}],
        ["What?", "Which?", "Cats."],
    ),
    "msvd": (
        [{"question": "how many", "answer": 3, "video_id": 7, "id": 12, "category_id": 5}],
        ["how many", "3"],
    ),
}


def form_of(name: str) -> str:
    return "videoinstruct" if name == "converted" else name


def shout(document: Any) -> dict[str, str]:
    return {text.id: f"【{text.source}】" for text in document.texts}


@pytest.mark.parametrize("name", JSON_FORMS)
def test_a_json_form_is_found_its_texts_change_and_nothing_else_does(
    tmp_path: Path, name: str
) -> None:
    rows, wanted = JSON_FORMS[name]
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    document = read_document(file)
    assert document.form == form_of(name)
    assert [text.source for text in document.texts] == wanted
    document.write(shout(document), out)
    text = json.dumps(rows, ensure_ascii=False)
    for source in wanted:
        if source == "3":
            text = text.replace('"answer": 3', '"answer": "【3】"')
        else:
            text = text.replace(source, f"【{source}】")
    assert json.loads(out.read_text(encoding="utf-8")) == json.loads(text)
    assert [list(row) for row in json.loads(out.read_text(encoding="utf-8"))] == [
        list(row) for row in rows
    ]


@pytest.mark.parametrize("name", JSON_FORMS)
def test_what_is_not_translated_stays_as_it_is_numbers_too(tmp_path: Path, name: str) -> None:
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(json.dumps(JSON_FORMS[name][0]), encoding="utf-8")
    read_document(file).write({}, out)
    assert json.loads(out.read_text(encoding="utf-8")) == JSON_FORMS[name][0]


def test_an_answer_has_its_question_as_context_and_a_second_question_has_none(
    tmp_path: Path,
) -> None:
    file = tmp_path / "in.json"
    file.write_text(json.dumps(JSON_FORMS["consistency"][0]), encoding="utf-8")
    told = [(text.id, text.field, text.context) for text in read_document(file).texts]
    assert told == [
        ("0/question", "question", ""),
        ("0/question2", "question2", ""),
        ("0/answer", "answer", "What?"),
    ]


def test_qa_pairs_are_joined_by_id_and_both_files_keep_their_own_order(tmp_path: Path) -> None:
    questions = [
        {"video_name": "b", "question_id": "b_1", "question": "does it fly"},
        {"video_name": "a", "question_id": "a_1", "question": "what is it"},
    ]
    answers = [
        {"answer": "a cat", "type": 2, "question_id": "a_1"},
        {"answer": "no", "type": 3, "question_id": "b_1"},
    ]
    q, a = tmp_path / "q.json", tmp_path / "a.json"
    q.write_text(json.dumps(questions))
    a.write_text(json.dumps(answers))
    document = read_document(q, answers=a)
    assert [(t.id, t.source, t.context) for t in document.texts] == [
        ("0/question", "does it fly", ""),
        ("0/answer", "no", "does it fly"),
        ("1/question", "what is it", ""),
        ("1/answer", "a cat", "what is it"),
    ]
    out, out_answers = tmp_path / "q_zh.json", tmp_path / "a_zh.json"
    document.write({"0/answer": "不", "1/answer": "猫"}, out, out_answers)
    assert json.loads(out.read_text()) == questions
    assert [row["answer"] for row in json.loads(out_answers.read_text())] == ["猫", "不"]
    old, new = (
        load_annotations(SplitConfig("qa-pairs", *pair)) for pair in ((q, a), (out, out_answers))
    )
    assert [(s.sample_id, s.video_id, s.type) for s in old] == [
        (s.sample_id, s.video_id, s.type) for s in new
    ]
    with pytest.raises(AnnotationError, match="target_answers"):
        document.write({}, out)
    with pytest.raises(AnnotationError, match="--answers"):
        read_document(q)


def test_tgif_stays_tab_separated_whatever_the_words(tmp_path: Path) -> None:
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    head = "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription"
    file.write_text(f'{head}\ng1\tsays "hi" to whom\tman\t0\tID1\t7\ta man "nods"\n')
    document = read_document(file)
    assert document.form == "tgif"
    document.write({"0/question": 'tab\there "so"\nnew line', "0/answer": "男人"}, out)
    (sample,) = load_annotations(SplitConfig("tgif", out))
    assert (sample.question, sample.answer) == ('tab here "so" new line', "男人")
    (row,) = read_document(out)._files[0]
    assert list(row.fields.values())[3:] == ["0", "ID1", "7", 'a man "nods"']


def test_jsonl_keeps_its_blank_lines_because_ids_count_them(tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"video": "a.mp4", "question": "what", "answer": "cat", "split": "train", "id": "x"},
        {"video": "b.mp4", "question": "who", "answer": "dog", "split": "test", "id": "x"},
        {"video": "c.mp4", "question": "where", "answer": "sun", "type": "t"},
    ]
    first, *rest = map(json.dumps, rows)
    file.write_text("\n\n".join([first, *rest]) + "\n")
    document = read_document(file)
    assert document.form == "jsonl"
    assert [text.id for text in document.texts][-1] == "5/answer"
    document.write(shout(document), out)
    for part in ("train", "test"):
        old, new = (load_annotations(SplitConfig("jsonl", path, part=part)) for path in (file, out))
        assert [(s.sample_id, s.video_id, s.type) for s in old] == [
            (s.sample_id, s.video_id, s.type) for s in new
        ]
        assert [f"【{s.question}】" for s in old] == [s.question for s in new]


def test_of_predictions_the_answers_alone_change_and_what_was_lost_stays_lost(
    tmp_path: Path,
) -> None:
    sample = QASample("q1", "v1", "猫在做什么", "跳", "action", question2="做什么呢")
    lost = QASample("q2", "v1", "几只", "两只")
    rows = [
        prediction_row(sample, "它在跳", "跳起来"),
        prediction_row(lost, None, None, "out-of-memory"),
        prediction_row(QASample("q3", "v1", "几只", "两只"), ""),
    ]
    file, out = tmp_path / "predictions.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(map(to_line, rows)), encoding="utf-8")
    document = read_document(file)
    assert document.form == "predictions"
    assert [(t.id, t.source, t.context) for t in document.texts] == [
        ("0/pred", "它在跳", "猫在做什么"),
        ("0/pred2", "跳起来", "做什么呢"),
    ]
    document.write({"0/pred": "it jumps", "0/pred2": "jumps"}, out)
    assert read_rows(out) == [{**rows[0], "pred": "it jumps", "pred2": "jumps"}, *rows[1:]]


def test_rows_that_are_left_out_are_in_no_file(tmp_path: Path) -> None:
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(json.dumps(CONVERTED))
    read_document(file).write({}, out, without={0})
    assert json.loads(out.read_text()) == [CONVERTED[1] | {"source_row": 1}]


@pytest.mark.parametrize(
    ("targets", "what"),
    [
        ({"9/question": "x"}, "not in the file"),
        ({"0/answer": " \n"}, "blank"),
        ({"0/question": "什么 <video> 跳"}, "one <video> at either end"),
    ],
)
def test_a_translation_that_would_spoil_the_file_is_refused(
    tmp_path: Path, targets: dict[str, str], what: str
) -> None:
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(json.dumps(CONVERTED))
    with pytest.raises(AnnotationError, match=what):
        read_document(file).write(targets, out)
    assert not out.exists()


def test_a_file_of_no_known_form_says_which_there_are(tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_text('[{"caption": "a cat"}]')
    with pytest.raises(AnnotationError, match=r"--form.*videoinstruct"):
        find_form(file)


def test_two_thousand_hard_lines_come_out_as_they_went_in(tmp_path: Path) -> None:
    lines = hard_lines(2000)
    rows = [
        {"q": q, "a": a, "video_id": f"v_{n}"}
        for n, (q, a) in enumerate(zip(lines[::2], lines[1::2], strict=True))
    ]
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    document = read_document(file)
    assert [text.source for text in document.texts] == lines
    document.write({text.id: pseudo(text.source) for text in document.texts}, out)
    assert [text.source for text in read_document(out).texts] == [pseudo(line) for line in lines]
