"""The page's data: every sample once, with the right marks, whatever it says; frames; one file."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_runs import MODEL, OFFLINE, TEST, answer_rows, exactly, save_judged
from PIL import Image

import eval.report.build as report_build
from benchmarks.chromium import chromium
from eval.judges.base import Verdict
from eval.report.build import NamedRun, Part, build_report
from eval.report.shards import FRAME_SHARD, SHARD
from features.config import Aspect
from features.errors import RedVillmError
from features.plan import extend_plan, source_video
from features.spec import FeatureSpec
from features.store import FeatureStore, VideoRow, create_store, write_shard

EVIL = "</script><script>alert(1)</script><!-- & \u2028 \u2029 \ud800 视频 \x00 \"'"


def build(runs: Sequence[NamedRun], out: Path, *parts: Part, **options: Any) -> dict[str, Any]:
    options = {"title": EVIL, "min_coverage": 0.5} | options
    return build_report(runs, parts or [TEST], out, **options)


def one(name: str, run: Path) -> NamedRun:
    return NamedRun(name, (run,))


def call(path: Path) -> Any:
    """The value of a data file, which must be one call and nothing else."""
    text = path.read_bytes().decode()  # strictly
    literal = r"(?:[^'\\\n\r]|\\['\\])*"  # of JavaScript, and these two escapes alone
    found = re.fullmatch(rf'redvillm\("([a-z0-9-]+)", JSON\.parse\(\'({literal})\'\)\);\n', text)
    assert found, text[:80]
    assert found[1] == path.stem
    assert not set("<>&\u2028\u2029") & set(found[2])
    return json.loads(re.sub(r"\\(.)", r"\1", found[2]))


def data_of(page: Path) -> dict[str, Any]:
    return {path.stem: call(path) for path in sorted((page / "data").iterdir())}


def jpeg(value: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(target, "JPEG")
    return target.getvalue()


def make_store(root: Path, count: int, videos: Path) -> FeatureStore:
    """Video 1 failed, 2 has no strip, all others have one of two frames."""
    spec = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", 2)
    path = create_store(root, spec)
    sources = [source_video(f"v{i}", videos / f"v{i}.mp4") for i in range(count)]
    plan = extend_plan(path, sources, 16, {})
    ones = np.ones((2, 4), np.float32)
    for shard, planned in plan.shards().items():
        rows = [
            VideoRow(row.video_id, "truncated")
            if row.video_id == "v1"
            else VideoRow(row.video_id, "ok", "", ones, ones, thumbs=strip_of(row.video_id))
            for row in planned
        ]
        write_shard(path, spec, plan, shard, rows)
    return FeatureStore(path)


def strip_of(video: str) -> tuple[bytes, ...]:
    number = int(video[1:])
    return () if number in (1, 2) else (jpeg(number), jpeg(number + 100))


def test_every_sample_is_there_once_with_its_marks(tmp_path: Path) -> None:
    outcomes = {"p": "parse_failure", "a": "api_failure", "r": "refused", "n": "not_asked"}
    wanted = ["+-pnar"[n % 6] for n in range(450)]
    wanted[17] = "l"

    def judge(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        mark = wanted[number]
        if mark in outcomes:
            return Verdict(row["sample_id"], aspect, outcomes[mark], reply="so", reason="thus")  # type: ignore[arg-type]
        return Verdict(row["sample_id"], aspect, "ok", mark == "+", 4.0, "words")

    preds = ["red" if n % 2 else "no" for n in range(450)]
    rows = answer_rows([None if n == 17 else pred for n, pred in enumerate(preds)])
    judges = [(MODEL, judge), (OFFLINE, exactly)]
    first = save_judged(tmp_path / "a", rows[::-1], judges=[(OFFLINE, exactly)])
    second = save_judged(tmp_path / "b", rows, judges=judges)
    build([one("a", first), one("b", second)], tmp_path / "out", min_coverage=0.1)
    data = data_of(tmp_path / "out/report")
    (part,) = data["report"]["parts"]
    assert part == {
        "key": "p0",
        "dataset": "demo",
        "split": "test",
        "aspects": ["qa"],
        "judges": [
            {"slug": OFFLINE.slug, "label": OFFLINE.label},
            {"slug": MODEL.slug, "label": MODEL.label},
        ],
        "runs": ["a", "b"],
        "count": 450,
        "shard": SHARD,
        "frame_shard": FRAME_SHARD,
        "frames": False,
    }
    index = data["p0-index"]
    shards = [data[f"p0-samples-{n}"] for n in range(3)]
    assert [len(shard) for shard in shards] == [200, 200, 50]
    assert set(data) == {"report", "p0-index", *(f"p0-samples-{n}" for n in range(3))}
    samples = [sample for shard in shards for sample in shard]
    assert [sample["id"] for sample in samples] == index["ids"] == [f"q{n:03d}" for n in range(450)]
    marks = index["marks"]
    assert marks["b"][f"{MODEL.slug} qa"] == "".join(wanted)
    exact = "".join("l" if n == 17 else "+" if n % 2 else "-" for n in range(450))
    assert marks["a"][f"{OFFLINE.slug} qa"] == marks["b"][f"{OFFLINE.slug} qa"] == exact
    assert marks["a"][f"{MODEL.slug} qa"] == " " * 450
    for at, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        assert index["videos"][index["video"][at]] == sample["video"] == row["video_id"]
        assert index["types"][index["type"][at]] == sample["type"] == row["type"]
        assert (sample["question"], sample["answer"]) == (row["question"], row["answer"])
        said = sample["runs"]["b"]
        assert (said["pred"], said["lost"]) == (row["pred"], row["lost"])
        assert said["exact"] == (None if row["lost"] else row["pred"] == "red")
        assert list(sample["runs"]["a"]["verdicts"]) == [f"{OFFLINE.slug} qa"]
    assert samples[0]["runs"]["b"]["verdicts"][f"{MODEL.slug} qa"] == {
        "outcome": "ok",
        "correct": True,
        "score": 4.0,
        "reply": "words",
        "reason": "",
        "judged_seeds": 1,
        "right_seeds": 1,
    }
    failed = samples[2]["runs"]["b"]["verdicts"][f"{MODEL.slug} qa"]
    assert (failed["judged_seeds"], failed["right_seeds"]) == (0, None)
    assert samples[17]["runs"]["b"]["verdicts"][f"{MODEL.slug} qa"]["reason"] == "truncated"
    assert samples[2]["runs"]["b"]["verdicts"][f"{MODEL.slug} qa"]["outcome"] == "parse_failure"


def test_scores_are_marks_of_one_digit_and_seeds_are_counted(tmp_path: Path) -> None:
    scores = [0.0, 0.4, 0.5, 1.5, 2.5, 4.4, 4.5, 5.0]

    def judge(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        return Verdict(row["sample_id"], aspect, "ok", None, scores[number])

    rows = answer_rows(["red"] * 8)
    detail = Part("demo", "val")
    run = save_judged(
        tmp_path / "a", rows, part=detail, judges=[(MODEL, judge)], aspects=["detail"]
    )
    seeds = [run]
    for number, preds in enumerate((["red"] * 8, ["red"] * 4 + ["no"] * 4, ["no"] * 8)):
        seeds.append(save_judged(tmp_path / f"s{number}", answer_rows(preds)))
    runs = [one("scored", run), NamedRun("seeds", tuple(seeds[1:]))]
    build(runs, tmp_path / "out", detail, TEST)
    data = data_of(tmp_path / "out/report")
    assert data["p0-index"]["marks"] == {"scored": {f"{MODEL.slug} detail": "00123455"}}
    detailed = data["p0-samples-0"][0]["runs"]["scored"]["verdicts"][f"{MODEL.slug} detail"]
    assert (detailed["judged_seeds"], detailed["right_seeds"]) == (1, None)
    said = [sample["runs"]["seeds"] for sample in data["p1-samples-0"]]
    verdicts = [one["verdicts"][f"{OFFLINE.slug} qa"] for one in said]
    assert [one["right_seeds"] for one in verdicts] == [2, 2, 2, 2, 1, 1, 1, 1]
    assert {one["judged_seeds"] for one in verdicts} == {3}
    assert {one["seeds"] for one in said} == {3}
    assert not any("right_seeds" in one for one in said)
    assert data["p1-index"]["marks"]["seeds"] == {f"{OFFLINE.slug} qa": "+" * 8}


def test_seeds_are_counted_for_each_judge_and_what_failed_is_not_wrong(tmp_path: Path) -> None:
    def other(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        if number % 2:
            return Verdict(row["sample_id"], aspect, "api_failure", reason="timeout")
        return Verdict(row["sample_id"], aspect, "ok", number == 0, 5.0)

    offline, model = (OFFLINE, exactly), (MODEL, other)
    seeds = [
        save_judged(tmp_path / "1", answer_rows(["red"] * 4), judges=[offline, model]),
        save_judged(
            tmp_path / "2", answer_rows(["red", "no", None, None]), judges=[offline, model]
        ),
        save_judged(tmp_path / "3", answer_rows(["no"] * 4), judges=[offline]),
    ]
    build([NamedRun("r", tuple(seeds))], tmp_path / "out", min_coverage=0.1)
    samples = data_of(tmp_path / "out/report")["p0-samples-0"]

    def counts(slug: str) -> list[tuple[int, int | None]]:
        said = [sample["runs"]["r"]["verdicts"][f"{slug} qa"] for sample in samples]
        return [(one["judged_seeds"], one["right_seeds"]) for one in said]

    assert counts(OFFLINE.slug) == [(3, 2), (3, 1), (2, 1), (2, 1)]
    assert counts(MODEL.slug) == [(2, 2), (0, None), (1, 0), (0, None)]
    assert {sample["runs"]["r"]["seeds"] for sample in samples} == {3}


def test_no_name_is_lost_in_the_browser(tmp_path: Path) -> None:
    name = "__proto__"
    videos = tmp_path / "videos"
    rows = answer_rows(["red", "no"], types=(name,))
    run = save_judged(tmp_path / "r", rows)
    build(
        [one(name, run)], tmp_path / "out", stores={"demo": make_store(tmp_path / "s", 3, videos)}
    )
    folder = tmp_path / "out/report/data"
    found: dict[str, Any] = {}
    with chromium() as browser:
        page = browser.new_page()
        page.evaluate("window.redvillm = (name, value) => { window[name] = value; }")
        for path in sorted(folder.iterdir()):
            page.add_script_tag(content=path.read_text("utf-8"))
            found[path.stem] = page.evaluate(f"JSON.stringify(window['{path.stem}'])")
    for stem, text in found.items():
        assert json.loads(text) == call(folder / f"{stem}.js")
    assert list(json.loads(found["p0-index"])["marks"]) == [name]
    assert list(json.loads(found["p0-samples-0"])[0]["runs"]) == [name]
    assert list(json.loads(found["report"])["rows"][0]["types"]) == [name]


def test_whatever_a_model_or_a_file_says_stays_text(tmp_path: Path) -> None:
    def judge(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        return Verdict(row["sample_id"], aspect, "ok", True, 5.0, EVIL, EVIL)

    rows = answer_rows([EVIL, "red"], types=(EVIL,), prefix=EVIL)
    for row in rows:
        row |= {"question": EVIL, "answer": EVIL, "video_id": EVIL}
    run = save_judged(tmp_path / "r", rows, judges=[(MODEL, judge)])
    out = tmp_path / "out"
    build([one(EVIL, run)], out, seconds={EVIL: 1.0})
    data = data_of(out / "report")
    assert data["report"]["title"] == EVIL
    assert data["report"]["parts"][0]["runs"] == [EVIL]
    sample = data["p0-samples-0"][0]
    assert {sample[key] for key in ("video", "type", "question", "answer")} == {EVIL}
    assert sample["runs"][EVIL]["pred"] == EVIL
    said = sample["runs"][EVIL]["verdicts"][f"{MODEL.slug} qa"]
    assert (said["reply"], said["reason"]) == (EVIL, EVIL)
    assert list(data["p0-index"]["marks"]) == [EVIL]
    assert json.loads((out / "report.json").read_bytes())["rows"][0]["name"] == EVIL
    assert "<script" not in (out / "report.md").read_bytes().decode()


def test_frames_and_videos_are_those_of_the_store(tmp_path: Path) -> None:
    videos = tmp_path / "the videos #1"
    videos.mkdir()
    (videos / "v3.mp4").write_bytes(b"x")
    store = make_store(tmp_path / "store", 40, videos)
    run = save_judged(
        tmp_path / "r", answer_rows(["red"] * 82)
    )  # 41 videos; v40 is not in the store
    out = tmp_path / "deep" / "out"
    build([one("r", run)], out, stores={"demo": store})
    data = data_of(out / "report")
    index = data["p0-index"]
    frames = [data[f"p0-frames-{n}"] for n in range(2)]
    assert [len(shard) for shard in frames] == [FRAME_SHARD, 38 - FRAME_SHARD]
    assert data["report"]["parts"][0]["frames"] is True
    for video, at in zip(index["videos"], index["frame_at"], strict=True):
        if video in ("v1", "v2", "v40"):
            assert at == -1
            continue
        strip = [base64.b64decode(text) for text in frames[at][video]]
        assert tuple(strip) == strip_of(video)
    addresses = dict(zip(index["videos"], index["paths"], strict=True))
    assert addresses.pop("v3") == "../../../the%20videos%20%231/v3.mp4"
    assert set(addresses.values()) == {None}


def test_a_report_is_whole_or_the_old_one(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 3, tmp_path)
    long = save_judged(tmp_path / "long", answer_rows(["red"] * 450))
    short = save_judged(tmp_path / "short", answer_rows(["red"] * 6))
    out = tmp_path / "out"
    build([one("long", long)], out)

    def files() -> dict[str, bytes]:
        return {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }

    before = files()
    assert {"report/data/p0-samples-2.js", "report/index.html", "report.csv"} <= set(before)
    (out / ".report.new" / "report" / "data").mkdir(parents=True)  # as a kill leaves it
    (strips,) = (tmp_path / "store/thumbs").glob("*.zip")
    whole = strips.read_bytes()
    with zipfile.ZipFile(strips) as archive:
        info = archive.infolist()[0]
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    strips.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    with pytest.raises(RedVillmError, match="thumbnails"):
        build([one("short", short)], out, stores={"demo": store})
    assert files() == before
    strips.write_bytes(whole)
    build([one("short", short)], out, stores={"demo": store})
    after = files()
    assert "report/data/p0-samples-0.js" in after
    assert not {"report/data/p0-samples-1.js", "report/data/p0-samples-2.js"} & set(after)
    assert not any(".report.new" in name for name in after)


def test_one_file_holds_everything_up_to_a_limit(tmp_path: Path) -> None:
    run = save_judged(tmp_path / "r", answer_rows(["red"] * 4 + [EVIL]))
    out = tmp_path / "out"
    store = make_store(tmp_path / "store", 3, tmp_path)
    build([one("r", run)], out, stores={"demo": store}, single_file=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
    ]
    html = (out / "report.html").read_text("utf-8")
    blocks = re.findall(r'<script type="application/json" id="data-([^"]+)">(.*?)</script>', html)
    found = {name: json.loads(value) for name, value in blocks}
    assert next(iter(found)) == "report"
    assert set(found) == {"report", "p0-index", "p0-samples-0", "p0-frames-0"}
    assert found["p0-samples-0"][4]["runs"]["r"]["pred"] == EVIL
    many = save_judged(tmp_path / "many", answer_rows(["red"] * 2501))
    save_judged(many, answer_rows(["red"] * 2500), part=Part("demo", "val"))
    before = html
    with pytest.raises(RedVillmError, match="too many samples"):
        build([one("m", many)], out, TEST, Part("demo", "val"), single_file=True)
    assert (out / "report.html").read_text("utf-8") == before


def test_one_file_is_not_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report_build.SINGLE_FILE_BYTES == 64 * 1024 * 1024
    run = save_judged(tmp_path / "r", answer_rows(["\u89c6" * 100_000, "red"]))
    out = tmp_path / "out"
    monkeypatch.setattr(report_build, "SINGLE_FILE_BYTES", 310_000)
    build([one("r", run)], out, single_file=True)
    before = (out / "report.html").read_bytes()
    monkeypatch.setattr(report_build, "SINGLE_FILE_BYTES", 290_000)  # bytes, not characters
    with pytest.raises(RedVillmError, match=r"too many bytes for a page in one file"):
        build([one("r", run)], out, single_file=True)
    assert (out / "report.html").read_bytes() == before
    assert not (out / ".report.new").exists()


def test_there_is_one_page_and_no_older_one_beside_it(tmp_path: Path) -> None:
    run = save_judged(tmp_path / "r", answer_rows(["red"]))
    out = tmp_path / "out"
    texts = ["report.csv", "report.json", "report.md"]
    build([one("r", run)], out)
    build([one("r", run)], out, single_file=True)
    assert sorted(path.name for path in out.iterdir()) == sorted([*texts, "report.html"])
    build([one("r", run)], out)
    assert sorted(path.name for path in out.iterdir()) == sorted([*texts, "report"])
    assert (out / "report/index.html").is_file()
