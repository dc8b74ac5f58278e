"""Verdicts worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.judge import OfflineJudge, Verdict, normalise, read_verdicts, token_f1, write_verdicts
from features.errors import RedVillmError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  The Red\n circle. ", "red circle"),
        ("A an THE dog's", "dogs"),
        ("athena and theatre", "athena and theatre"),
        ("\uff27\uff52een\uff01", "green"),  # full-width letters (NFKC)
        ("ﬁve", "five"),
        ("“blue” \u2013 it moved", "blue it moved"),
        ("A.", "a"),  # an option's letter is not an article
        ("?!", "?!"),
        ("", ""),
        ("一只猫。", "一只猫"),
    ],
)
def test_normalise(text: str, wanted: str) -> None:
    assert normalise(text) == wanted


@pytest.mark.parametrize(
    ("pred", "answer", "wanted"),
    [
        ("red circle", "red circle", 1.0),
        ("red", "red circle", 2 / 3),  # precision 1, recall 1/2
        ("red red circle moves", "red circle", 4 / 6),  # 2 shared of 4 and of 2
        ("red red", "red", 2 / 3),  # counted with multiplicity
        ("blue", "red", 0.0),
        ("", "red", 0.0),
        ("一只狗", "一只猫", 2 / 3),  # Chinese by character
    ],
)
def test_token_f1(pred: str, answer: str, wanted: float) -> None:
    assert token_f1(pred, answer) == pytest.approx(wanted)


def row(sample_id: str, answer: str, pred: str | None) -> dict[str, object]:
    lost = "truncated" if pred is None else None
    return {"sample_id": sample_id, "answer": answer, "pred": pred, "lost": lost}


def test_offline_judge_never_scores_a_lost_question(tmp_path: Path) -> None:
    judge = OfflineJudge()
    rows = [row("1", "Red.", "the red"), row("2", "red", "red dog"), row("3", "red", None)]
    verdicts = judge([*rows, row("4", "red", "")])
    name = "offline-em-f1/1"
    assert verdicts == [
        Verdict("1", "ok", True, 1.0, name),
        Verdict("2", "ok", False, 2 / 3, name),
        Verdict("3", "lost", None, None, name),
        Verdict("4", "ok", False, 0.0, name),  # saying nothing is wrong, not lost
    ]
    assert "gpt" not in judge.name.lower()
    write_verdicts(tmp_path / "verdicts.jsonl", verdicts)
    assert read_verdicts(tmp_path / "verdicts.jsonl") == verdicts
    assert json.loads((tmp_path / "verdicts.jsonl").read_text("utf-8").splitlines()[2]) == {
        "sample_id": "3",
        "outcome": "lost",
        "correct": None,
        "f1": None,
        "judge": name,
    }


@pytest.mark.parametrize("text", ['{"sample_id": "1"}\n', "[]\n", '{"sample_id"'])
def test_a_file_that_holds_no_verdicts(tmp_path: Path, text: str) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(text)
    with pytest.raises(RedVillmError, match=r"verdict.*verdicts\.jsonl"):
        read_verdicts(path)
