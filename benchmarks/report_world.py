"""What the report is measured on: evaluation folders of made-up runs, made once and kept.

The sizes are those of MSRVTT-QA's test split with a little of the generative benchmark: questions
with short answers, model answers of one or two sentences, replies as a rubric judge gives them,
some lost and some failed, a tenth in Chinese. The frame strips are real JPEG files in a real store.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.world import new_folder, write_clip
from eval.folders import JUDGES, META, PREDICTIONS, SUMMARY, VERDICTS, eval_folder
from eval.judges.base import JUDGE, JudgeRecord, Verdict, write_verdicts
from eval.report.build import NamedRun, Part
from features.config import Aspect
from features.durable import file_sha256
from features.plan import extend_plan, source_video
from features.spec import SCHEMA_VERSION, FeatureSpec
from features.store import FeatureStore, VideoRow, compact_index, create_store, write_shard

THUMBS = 8
_SIZE = (160, 90)
_STEPS = 3000
_WITH_FILE = 8
_PLACES = [
    Part("msrvtt-qa", "test"),
    Part("vcgbench", "generic"),
    Part("vcgbench", "temporal"),
    Part("vcgbench", "consistency"),
]
_ASPECTS: list[tuple[Aspect, ...]] = [
    ("qa",),
    ("correctness", "detail", "context"),
    ("temporal",),
    ("consistency",),
]
_JUDGED_BY = JudgeRecord(
    "endpoint",
    "judge-model-2026-01-01",
    endpoint="127.0.0.1",
    seed=0,
    max_tokens=256,
    structured=True,
    rubric=hashlib.sha256(b"bench").hexdigest(),
)


@dataclass(frozen=True)
class ReportScale:
    """How much is reported."""

    name: str
    questions: int
    """Judged rows of each run, over all parts."""
    videos: int
    """Of the large part."""
    runs: int = 2


SCALES = {
    scale.name: scale
    for scale in (
        ReportScale("full", 73_000, 2_990),
        ReportScale("quick", 5_000, 200),
        ReportScale("tiny", 300, 24),
    )
}


def make_report_world(
    root: Path, scale: ReportScale
) -> tuple[list[NamedRun], list[Part], dict[str, FeatureStore]]:
    """Runs with their evaluations, what they were evaluated on, and a store for each dataset."""
    folder = root / f"report-{scale.name}"
    names = ["untuned base", *(f"RED-VILLM {i}" for i in range(1, scale.runs))]
    if not folder.exists():
        with new_folder(folder) as new:
            _make_store(new / "msrvtt-qa", folder / "videos", scale.videos, "video")
            _make_store(new / "vcgbench", folder / "videos", max(4, scale.videos // 100), "v_")
            clip = new / "videos" / "video0.mp4"
            clip.parent.mkdir()
            write_clip(clip, 50, (320, 180), seed=0)
            for number in range(1, _WITH_FILE):
                clip.with_name(f"video{number}.mp4").write_bytes(clip.read_bytes())
            for number in range(scale.runs):
                _make_run(new / "runs" / str(number), number, scale)
    runs = [NamedRun(name, (folder / "runs" / str(i),)) for i, name in enumerate(names)]
    stores = {name: FeatureStore(folder / name) for name in ("msrvtt-qa", "vcgbench")}
    return runs, list(_PLACES), stores


def _make_store(path: Path, videos: Path, count: int, prefix: str) -> None:
    """Features of next to nothing, and frame strips; one video in 200 failed."""
    spec = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", 2)
    create_store(path, spec)
    sources = [source_video(f"{prefix}{i}", videos / f"{prefix}{i}.mp4") for i in range(count)]
    plan = extend_plan(path, sources, 128, {})
    ones = np.ones((2, 4), np.float32)
    for shard, planned in plan.shards().items():
        rows = []
        for row in planned:
            number = int(row.video_id.removeprefix(prefix))
            if _failed(number):
                rows.append(VideoRow(row.video_id, "truncated", "the file ends early"))
            else:
                strip = tuple(_thumbs(number))
                rows.append(VideoRow(row.video_id, "ok", "", ones, ones, thumbs=strip))
        write_shard(path, spec, plan, shard, rows)
    compact_index(path)


def _thumbs(number: int) -> Iterator[bytes]:
    """Coarse noise, enlarged, with a bar that moves: a few kB a frame."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8))
    ground = np.array(coarse.resize(_SIZE, Image.Resampling.BICUBIC))
    for index in range(THUMBS):
        frame = ground.copy()
        frame[:, index * 20 : index * 20 + 12] = 255 - 20 * index
        target = io.BytesIO()
        Image.fromarray(frame).save(target, "JPEG", quality=80)
        yield target.getvalue()


def _make_run(run: Path, number: int, scale: ReportScale) -> None:
    rest = 179 if scale.questions >= 1000 else 60
    counts = [scale.questions - rest, rest - 2 * (rest // 6), rest // 6, rest // 6]
    for index, (part, aspects) in enumerate(zip(_PLACES, _ASPECTS, strict=True)):
        large, count = part.dataset == "msrvtt-qa", counts[index]
        videos = scale.videos if large else max(4, scale.videos // 100)
        words = _Words(index, number)
        rows = [words.row(i, "video" if large else "v_", videos, aspects) for i in range(count)]
        meta = _meta(part, aspects, number)
        _save(eval_folder(run, part.dataset, part.split), meta, rows, aspects, words)
    rng = np.random.default_rng(number)
    lines = ["loss,lr,step,val_loss"]
    for step in range(1, _STEPS + 1):
        loss = 1.1 + 2 * 0.999**step + 0.1 * rng.standard_normal()
        seen = f"{1.2 + 2 * 0.999**step:.4f}" if step % 200 == 0 else ""
        lines.append(f"{loss:.4f},{2e-5 * (1 - step / _STEPS):.3g},{step},{seen}")
    (run / "logs").mkdir()
    (run / "logs" / "metrics.csv").write_text("\n".join(lines) + "\n")


def _meta(part: Part, aspects: Sequence[Aspect], number: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "base": "b" * 64,
        "prompt": "USER: {video}{question} ASSISTANT:",
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
        "spec": "5" * 64,
        "features": "f" * 64,
        "checkpoint": f"{number}" * 64,
        "dataset": part.dataset,
        "split": part.split,
        "annotations": hashlib.sha256(str(part).encode()).hexdigest(),
        "aspects": list(aspects),
        "type_names": [],
        "seconds": 1234.5 + number,
    }


def _save(
    folder: Path,
    meta: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    aspects: Sequence[Aspect],
    words: _Words,
) -> None:
    judged = folder / JUDGES / _JUDGED_BY.slug
    judged.mkdir(parents=True)
    (folder / META).write_text(json.dumps(meta))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / PREDICTIONS).write_text("".join(lines), encoding="utf-8")
    (judged / JUDGE).write_text(json.dumps(asdict(_JUDGED_BY)))
    found = [words.verdict(row, aspect) for row, aspect in product(rows, aspects)]
    write_verdicts(judged / VERDICTS, sorted(found, key=lambda v: (v.sample_id, v.aspect)))
    digest = file_sha256(folder / PREDICTIONS)
    (judged / SUMMARY).write_text(json.dumps({"predictions": digest}))


def _failed(video: int) -> bool:
    return video % 200 == 199


class _Words:
    """Draws questions, answers and what was said of them; the questions are those of every run."""

    def __init__(self, part: int, run: int) -> None:
        self._asked = np.random.default_rng(part)
        self._said = np.random.default_rng([part, run, 1])
        self._run = run

    def row(self, number: int, prefix: str, videos: int, aspects: Sequence[str]) -> dict[str, Any]:
        """A row of predictions.jsonl."""
        word = self._pick(self._asked, ["what", "who", "how", "when", "where"])
        thing, act = self._pick(self._asked, _THINGS), self._pick(self._asked, _ACTS)
        question = f"{word} is the {thing} doing while someone is {act}?"
        answer = act
        if self._asked.random() < 0.1:
            question, answer = f"视频里的{self._pick(self._asked, _ZH)}在做什么?", "跑步"
        second = f"tell me {word} the {thing} does" if "consistency" in aspects else None
        video = number % videos
        lost = "truncated" if _failed(video) else None
        preds = [None if lost else self._answer(answer, thing) for _ in range(2)]
        stop = None if lost else "length" if self._said.random() < 0.01 else "stop"
        return {
            "sample_id": f"{number}",
            "video_id": f"{prefix}{video}",
            "type": word if aspects == ("qa",) else "",
            "question": question,
            "question2": second,
            "answer": answer,
            "pred": preds[0],
            "pred2": preds[1] if second else None,
            "lost": lost,
            "finish_reason": stop,
            "finish_reason2": stop if second else None,
            "num_tokens": None if lost else 24,
            "num_tokens2": 24 if second and not lost else None,
        }

    def verdict(self, row: dict[str, Any], aspect: Aspect) -> Verdict:
        """A row of verdicts.jsonl."""
        name = row["sample_id"]
        if row["lost"]:
            return Verdict(name, aspect, "lost", reason=row["lost"])
        draw = self._said.random()
        if draw < 0.002:
            return Verdict(
                name, aspect, "parse_failure", reply="I think it is fine.", reason="no score"
            )
        if draw < 0.003:
            return Verdict(name, aspect, "refused", reply="I cannot help with that.")
        if draw < 0.004:
            return Verdict(name, aspect, "api_failure", reason="timeout after 6 attempts")
        right = bool(self._said.random() < 0.45 + 0.1 * self._run)
        score = float(self._said.integers(3, 6) if right else self._said.integers(0, 3))
        said = {"correct": "yes" if right else "no"} if aspect == "qa" else {}
        why = f"The answer {'names' if right else 'does not name'} what the reference says."
        reply = json.dumps({**said, "score": score, "reason": why})
        correct = right if aspect == "qa" else None
        return Verdict(name, aspect, "ok", correct, score, reply, "", 310, 35)

    def _answer(self, answer: str, thing: str) -> str:
        told = answer if self._said.random() < 0.5 else self._pick(self._said, _ACTS)
        place = self._pick(self._said, _PLACES_IN_WORDS)
        return f"In the video, the {thing} is seen {told} {place}. The scene is calm and well lit."

    @staticmethod
    def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]


_THINGS = ["man", "woman", "child", "dog", "cat", "band", "cook", "player", "car", "crowd"]
_ACTS = ["cooking", "singing", "running", "talking", "driving", "dancing", "playing", "swimming"]
_PLACES_IN_WORDS = ["in a kitchen", "on a stage", "on a field", "by a river", "in a small room"]
_ZH = ["男人", "女人", "孩子", "狗", "猫", "乐队"]
