"""`pipelines data` over small worlds laid out as each set's recipe says, in the published forms."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from features.annotations import load_annotations
from features.config import DatasetConfig
from features.plan import find_videos
from features.recipes import RECIPES, load_recipe
from pipelines.__main__ import main
from pipelines.stages import console

Text = Callable[..., str]
QUESTIONS = [
    {"video_name": "aaaaaaaaaaa", "question_id": "aaaaaaaaaaa_1", "question": "is it a cat"},
    {"video_name": "bbbbbbbbbbb", "question_id": "bbbbbbbbbbb_1", "question": "what runs"},
]
ANSWERS = [
    {"answer": "a dog", "type": 5, "question_id": "bbbbbbbbbbb_1"},
    {"answer": "yes", "type": 3, "question_id": "aaaaaaaaaaa_1"},
]
GENERAL = [{"Q": "What is seen?", "A": "A cat.", "video_name": "v_aaaaaaaaaaa"}]
TGIF = (
    "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\n"
    "tumblr_x1_400\twhat runs ?\tdog\t0\tFRAMEQA1\t5\ta dog runs .\n"
)
WORLDS: dict[str, tuple[dict[str, object], list[str], int]] = {
    "activitynet": (
        {
            "VideoInstruct100K.json": [
                {"q": "What is it?", "a": "A cat.", "video_id": "v_aaaaaaaaaaa"},
                {
                    "id": "v_ccccccccccc",
                    "video": "v_ccccccccccc.pkl",
                    "conversations": [
                        {"from": "human", "value": "What runs?\n<video>"},
                        {"from": "gpt", "value": "A dog."},
                    ],
                },
            ],
            "val_q.json": QUESTIONS[:1],
            "val_a.json": ANSWERS[1:],
            "test_q.json": QUESTIONS[1:],
            "test_a.json": ANSWERS[:1],
        },
        ["v_aaaaaaaaaaa.mp4", "v_bbbbbbbbbbb.mkv", "v_ccccccccccc.mp4"],
        4,
    ),
    "activitynet-zh": (
        {
            "VideoInstruct100K_zh.json": [
                {"q": "这是什么?", "a": "一只猫。", "video_id": "v_aaaaaaaaaaa"}
            ],
            "val_q_zh.json": QUESTIONS[:1],
            "val_a_zh.json": ANSWERS[1:],
            "test_q_zh.json": QUESTIONS[1:],
            "test_a_zh.json": ANSWERS[:1],
        },
        ["v_aaaaaaaaaaa.mp4", "v_bbbbbbbbbbb.mkv"],
        3,
    ),
    "activitynet-qa": (
        {"val_q.json": QUESTIONS, "val_a.json": ANSWERS}
        | {"test_q.json": QUESTIONS, "test_a.json": ANSWERS},
        ["v_aaaaaaaaaaa.mp4", "v_bbbbbbbbbbb.mkv"],
        4,
    ),
    "vcgbench": (
        {
            "generic_qa.json": GENERAL,
            "temporal_qa.json": GENERAL,
            "consistency_qa.json": [
                {"Q1": "What?", "Q2": "Which?", "A": "A cat.", "video_name": "v_bbbbbbbbbbb"}
            ],
        },
        ["v_aaaaaaaaaaa.mp4", "v_bbbbbbbbbbb.mkv"],
        3,
    ),
    "vcgbench-zh": (
        {
            "generic_qa_zh.json": GENERAL,
            "temporal_qa_zh.json": GENERAL,
            "consistency_qa_zh.json": [
                {"Q1": "是什么?", "Q2": "哪个?", "A": "一只猫。", "video_name": "v_bbbbbbbbbbb"}
            ],
        },
        ["v_aaaaaaaaaaa.mp4", "v_bbbbbbbbbbb.mkv"],
        3,
    ),
    "msvd-qa": (
        {
            "val_qa.json": [{"answer": "chop", "id": 1, "question": "what?", "video_id": 1201}],
            "test_qa.json": [
                {"answer": "cook", "id": 9, "question": "who?", "video_id": 1301},
                {"answer": "cook", "question": "who?", "video_id": "-wa0umYJVGg_271_276"},
            ],
        },
        ["vid1201.avi", "vid1301.avi", "-wa0umYJVGg_271_276.avi"],
        3,
    ),
    "msrvtt-qa": (
        {
            "val_qa.json": [{"answer": "a", "id": 1, "question": "q?", "video_id": 6513}],
            "test_qa.json": [{"answer": "b", "id": 2, "question": "q?", "video_id": 7010}],
        },
        ["video6513.mp4", "video7010.mp4"],
        2,
    ),
    "tgif-qa": ({"Test_frameqa_question.csv": TGIF}, ["tumblr_x1_400.gif"], 1),
}


def lay_out(root: Path, name: str) -> DatasetConfig:
    """A set's files below `root`, where its recipe looks for them from there."""
    annotations, videos, _ = WORLDS[name]
    recipe = load_recipe("datasets", name, DatasetConfig)
    for file, rows in annotations.items():
        path = root / "data" / name.removesuffix("-zh") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    for video in videos:
        path = root / recipe.videos / video
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video.encode())
    return recipe


def recipe_file(path: Path, name: str, extra: str = "") -> str:
    """The shipped recipe without its published numbers, which a small world cannot have."""
    text = (RECIPES / "datasets" / f"{name}.yaml").read_text()
    text = re.sub(r"(,|\n)\s*(num_questions|videos): \d+", "", text)
    path.write_text(text + extra)
    return str(path)


@pytest.fixture
def text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Text:
    """Runs `pipelines data` in the world's folder; its output, after a check of the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 100)  # made when another test's COLUMNS held, maybe

    def run(*args: str, code: int) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert main(["data", *args]) == code
        changed = {path for path in tmp_path.rglob("*") if "--missing" not in args}
        assert changed <= before.keys(), "it only looks"
        found = capsys.readouterr()
        assert all(len(line) <= 100 for line in found.out.splitlines())
        return " ".join((found.out + found.err).split())

    return run


@pytest.mark.parametrize("name", WORLDS)
def test_a_set_laid_out_as_its_recipe_says_is_all_there(
    name: str, tmp_path: Path, text: Text
) -> None:
    recipe = lay_out(tmp_path, name)
    assert "all there" in text("--dataset", recipe_file(tmp_path / "r.yaml", name), code=0)
    found = find_videos(recipe.videos)
    samples = [sample for split in recipe.splits.values() for sample in load_annotations(split)]
    assert {sample.video_id for sample in samples} == set(found)
    assert len(samples) == WORLDS[name][2]
    # the recipe as shipped knows how much was published, and that this is not it
    shown = text("--dataset", name, code=2)
    first = next(iter(recipe.splits.values()))
    assert f"of {first.num_questions:,}" in shown
    assert "not the numbers published" in shown
    assert recipe.source.split()[0] in shown


@pytest.mark.parametrize("name", WORLDS)
def test_recipes_know_what_was_published(name: str) -> None:
    """The numbers of the facts page; ActivityNet-QA's are counted from its files of today."""
    published = {
        "activitynet": {"train": (100_010, 13_303), "val": (18_000, 1_800), "test": (8_000, 800)},
        "activitynet-zh": {
            "train": (100_010, 13_303),
            "val": (18_000, 1_800),
            "test": (8_000, 800),
        },
        "activitynet-qa": {"val": (18_000, 1_800), "test": (8_000, 800)},
        "vcgbench": {"generic": (1_996, 499), "temporal": (499, 499), "consistency": (499, 499)},
        "vcgbench-zh": {"generic": (1_996, 499), "temporal": (499, 499), "consistency": (499, 499)},
        "msvd-qa": {"val": (6_415, 245), "test": (13_157, 504)},
        "msrvtt-qa": {"val": (12_278, 497), "test": (72_821, 2_990)},
        "tgif-qa": {"test": (13_691, 7_132)},
    }
    recipe = load_recipe("datasets", name, DatasetConfig)
    found = {key: (split.num_questions, split.videos) for key, split in recipe.splits.items()}
    assert found == published[name]
    assert recipe.source
    assert recipe.licence != DatasetConfig("", Path()).licence


def test_what_is_missing_is_named(tmp_path: Path, text: Text) -> None:
    lay_out(tmp_path, "activitynet")
    folder = tmp_path / "data/activitynet"
    (folder / "videos/v_ccccccccccc.mp4").unlink()
    (folder / "val_a.json").unlink()
    (folder / "test_a.json").write_text("{")
    (folder / "videos/v_aaaaaaaaaaa.mkv").write_bytes(b"again")
    (folder / "videos/v_other.webm").write_bytes(b"unasked")
    recipe = recipe_file(tmp_path / "r.yaml", "activitynet")
    shown = text("--dataset", recipe, "--missing", "gone.txt", code=2)
    assert "train: 1 videos missing: v_ccccccccccc" in shown
    assert "put the annotation file at data/activitynet/val_a.json" in shown
    assert "test: not valid JSON" in shown
    assert "put the videos below data/activitynet/videos" in shown
    assert "keep one file each of v_aaaaaaaaaaa" in shown
    assert "nobody asks" not in shown, "nobody knows while a split cannot be read"
    assert "to be had: videos: ActivityNet" in shown
    assert (tmp_path / "gone.txt").read_text() == "v_ccccccccccc\n"
    (folder / "videos/v_aaaaaaaaaaa.mkv").unlink()
    (folder / "test_a.json").write_text(json.dumps(ANSWERS[:1]))
    shown = text("--dataset", recipe, "--split", "test", code=0)
    assert "all there" in shown
    assert "nobody asks about v_aaaaaaaaaaa, v_other" in shown
    assert "did you mean test" in text("--dataset", recipe, "--split", "tast", code=2)
    shutil.rmtree(folder / "videos")
    assert "put the videos below data/activitynet/videos" in text(
        "--dataset", recipe, "--split", "test", code=2
    )


def test_without_a_name_all_sets_are_listed(tmp_path: Path, text: Text) -> None:
    lay_out(tmp_path, "tgif-qa")
    (tmp_path / "data/tgif-qa/gifs/tumblr_x1_400.gif").unlink()
    shown = text(code=2)
    for recipe in (RECIPES / "datasets").glob("*.yaml"):
        assert recipe.stem in shown
    assert "tgif-qa 1 of 1 1 of 13,691 1 1 ✗" in shown


def test_own_videos_and_questions(tmp_path: Path, text: Text) -> None:
    clips, own = tmp_path / "clips", tmp_path / "own.jsonl"
    clips.mkdir()
    assert "put the videos below" in text("--videos", "clips", code=2)
    (clips / "a.mp4").write_bytes(b"a")
    assert "all there" in text("--videos", "clips", code=0)
    rows = [{"video": "a.mp4", "question": "q", "answer": "a", "split": "test"}]
    own.write_text("\n".join(json.dumps(row) for row in rows))
    assert "all there" in text("--videos", "clips", "--annotations", "own.jsonl", code=0)
    own.write_text(json.dumps({"video": "b.mp4", "question": "q", "answer": "a"}))
    assert "train: 1 videos missing: b" in text(
        "--videos", "clips", "--annotations", "own.jsonl", code=2
    )
    own.write_text("\n")
    assert "no questions" in text("--videos", "clips", "--annotations", "own.jsonl", code=2)


def test_checksums_are_compared_when_asked_for(tmp_path: Path, text: Text) -> None:
    lay_out(tmp_path, "msrvtt-qa")
    recipe = recipe_file(tmp_path / "r.yaml", "msrvtt-qa", "checksums: sums.txt\n")
    assert "cannot read the checksums" in text("--dataset", recipe, code=2)
    good, bad = (hashlib.sha256(data).hexdigest() for data in (b"video6513.mp4", b"another"))
    lines = f"{good}  ./video6513.mp4\n{bad} *video7010.mp4\n{bad}  video9.mp4\n"
    (tmp_path / "sums.txt").write_text(lines)
    shown = text("--dataset", recipe, code=0)
    assert "2 listed" in shown
    assert "not hashed" in shown
    shown = text("--checksums", "--dataset", recipe, code=2)
    assert "1 as listed" in shown
    assert "not as listed: video7010" in shown
    (tmp_path / "data/msrvtt-qa/videos/video7010.mp4").write_bytes(b"another")
    assert "2 as listed" in text("--dataset", recipe, "--checksums", code=0)
