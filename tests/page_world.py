"""A report's data files by their contract alone, with every kind of verdict and hostile texts.

What stands where follows simple rules (below), so that tests can count by themselves.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from eval.report.page import write_page

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)></script><!--"
RUNS = ["base", "RED-VILLM", f"run {EVIL}"]
TYPES = ["colour", "motion", f"type {EVIL}"]
OFFLINE, MODEL = "offline-0a", "some-model-1b"
LABELS = {OFFLINE: "offline-em-f1-2", MODEL: "some-model-2026 (rubric 12345678)"}
NUM_QA, NUM_FIVE, SHARD, FRAME_SHARD = 450, 60, 200, 32
ASPECTS = ["correctness", "detail", "context", "temporal", "consistency"]
CHINESE = "视频里的人在做什么"

Json = dict[str, Any]


def qa_mark(run: int, judge: str, at: int) -> str:
    """The verdict on one answer of the first part, as a mark of the index."""
    if at % 90 == 7:
        return "l"  # a lost video is lost for all
    if judge == MODEL and run == 1:
        special = {11: "p", 12: "a", 13: "r", 14: "n"}.get(at % 100)
        if special:
            return special
    right = at % (run + 2) == 0
    if judge == MODEL and at % 10 == 3:
        right = not right  # the judges disagree here
    return "+" if right else "-"


def score_mark(run: int, at: int) -> str:
    """Rounded score of one answer of the second part."""
    return str((at * (run + 1) + run) % 6)


def calls() -> dict[str, Any]:
    """Every data file's value by its name."""
    return {"report": _report(), **_qa_part(), **_five_part()}


def escaped(value: object) -> str:
    """JSON that ends no element and no script."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def write_world(folder: Path) -> Path:
    """The whole report folder; returns index.html."""
    write_page(folder)
    (folder / "data").mkdir()
    for name, value in calls().items():
        text = f"redvillm({json.dumps(name)}, {escaped(value)});\n"
        (folder / "data" / f"{name}.js").write_text(text, encoding="utf-8")
    return folder / "index.html"


def _report() -> Json:
    qa = [
        {**_table("msvd-qa", "test", "qa", judge, TYPES), "differences": _differences()}
        for judge in (OFFLINE, MODEL)
    ]
    scored = [_table("vcgbench", "generic", "correctness", MODEL, TYPES)]
    scored += [_table("vcgbench", "generic", aspect, MODEL, ["all"]) for aspect in ASPECTS[1:3]]
    scored += [_table("vcgbench", aspect, aspect, MODEL, TYPES[:1]) for aspect in ASPECTS[3:]]
    for table in scored[3:]:
        table["rows"].pop()  # the last run was not asked
    scored[0]["rows"].reverse()  # a table's order is not the page's
    few = [_table(f"{name}-qa", "test", "qa", MODEL, kinds) for name, kinds in FEW_TYPES.items()]
    for row in few[2]["rows"]:
        row["types"]["colour"]["asked"] = 150  # the others have no type
    for row in few[-1]["rows"]:
        for score in (row["all"], *row["types"].values()):
            score |= {"accuracy": None, "low": None, "high": None}
    return {
        "schema": 3,
        "title": "How often is the answer right?",
        "split": "test",
        "judge": LABELS[OFFLINE],
        "rows": qa[0]["rows"],
        "differences": qa[0]["differences"],
        "tables": [*qa, *scored, *few],
        "run_order": RUNS,
        "five": [_five()],
        "published": PUBLISHED,
        "agreement": [AGREEMENT],
        "curves": {run: _curve(at) for at, run in enumerate(RUNS[1:])},
        "cost": [_cost(run) for run in RUNS],
        "warnings": ["left out: <b>some</b> run"],
        "fingerprints": {"base": "a" * 64, f"checkpoint of {RUNS[2]}": "b" * 64},
        "seconds": {"extract": 12.5, "train": 123.4},
        "parts": [
            _part("p0", "msvd-qa", "test", ["qa"], [OFFLINE, MODEL], NUM_QA, True),
            _part("p1", "vcgbench", "generic", ASPECTS[:3], [MODEL], NUM_FIVE, False),
        ],
    }


LONG_CHINESE = CHINESE * 3
FEW_TYPES = {
    **{"one-type": TYPES[:1], "untyped": ["all"], "part-typed": TYPES[:1]},
    **{"chinese": [LONG_CHINESE, "colour"], "empty": TYPES[:2]},
}
PUBLISHED: Json = {
    "judge": "GPT-3.5, as printed in the paper",
    "generative": ["vcgbench"],
    "table1": [{"method": "RED-VILLM", "llm": "LLaVA-7B"} | dict.fromkeys(ASPECTS, 2.57)],
    "table2": [
        {"method": "FrozenBiLM", "llm": "DeBERTa-V2", "msvd-qa": {"accuracy": 32.2, "score": None}},
        {"method": "RED-VILLM", "llm": "LLaVA-7B", "msvd-qa": {"accuracy": 68.9, "score": 2.8}},
    ],
    "notes": ["Of both tables.", "Table 1: of the first.", "Table 2: of the second."],
}
AGREEMENT: Json = {
    **{"dataset": "msvd-qa", "split": "test", "aspect": "qa", "run": "base"},
    **{"a": LABELS[OFFLINE], "b": LABELS[MODEL]},
    **{"questions": 440, "same": 90.0, "kappa": 0.712, "spearman": None, "score_gap": -0.25},
}


def _part(
    key: str,
    dataset: str,
    split: str,
    aspects: list[str],
    judges: list[str],
    num: int,
    frames: bool,
) -> Json:
    return {
        **{"key": key, "dataset": dataset, "split": split, "aspects": aspects, "runs": RUNS},
        "judges": [{"slug": slug, "label": LABELS[slug]} for slug in judges],
        **{"count": num, "shard": SHARD, "frame_shard": FRAME_SHARD, "frames": frames},
    }


def _table(dataset: str, split: str, aspect: str, judge: str, types: list[str]) -> Json:
    rows = [
        {
            "name": name,
            **{"seeds": 2 if at == 1 else 1, "of_seeds": 3 if at == 1 else 1},
            "types": _types(aspect, at, types),
            "all": _score(aspect, at, 3),
            "macro": 44.44 + at if aspect == "qa" else None,
            "refused": None,
            "lost": {"truncated": 4, "no_frames": 1},
        }
        for at, name in enumerate(RUNS)
    ]
    if (dataset, judge) == ("msvd-qa", MODEL):
        empty = dict.fromkeys(["accuracy", "low", "high", "score", "score_low", "score_high"])
        rows[2] |= {
            "all": rows[2]["all"] | empty,
            "refused": "no accuracy: only 70.0 % were judged",
        }
        rows[2] |= {"types": {k: v | empty for k, v in rows[2]["types"].items()}, "macro": None}
    names = {"dataset": dataset, "split": split, "aspect": aspect}
    return {**names, "judge": LABELS[judge], "judge_slug": judge, "rows": rows, "differences": []}


def _types(aspect: str, run: int, types: list[str]) -> Json:
    """With several types the first was judged as a whole, of the others a few are missing."""
    scores = {kind: _score(aspect, run, 7 * n) for n, kind in enumerate(types)}
    if len(types) > 1:
        for n, score in enumerate(scores.values()):
            score |= {"asked": 150, "judged": 150 - 3 * n}
    return scores


def _score(aspect: str, run: int, shift: int) -> Json:
    percent = 31.27 + 13 * run + shift if aspect == "qa" else None
    score = 2.345 + 0.4 * run + shift / 50
    return {
        "accuracy": percent,
        "low": None if percent is None else percent - 2.5,
        "high": None if percent is None else percent + 2.5,
        **{"score": score, "score_low": score - 0.1, "score_high": score + 0.1},
        **{"exact": 30.5, "f1": 41.5, "asked": NUM_QA, "judged": NUM_QA - 9, "lost": 5},
        **{"failures": {"parse_failure": 3, "refused": 1}, "contradictions": 2},
    }


def _differences() -> list[Json]:
    numbers = {"points": 13.04, "low": 10.1, "high": 16.0, "questions": 440}
    scores = {"score": 0.41, "score_low": 0.3, "score_high": 0.52}
    names = {"a": RUNS[1], "b": RUNS[0], "excludes_zero": True}
    return [{**names, "type": kind, **numbers, **scores} for kind in TYPES[:2]]


def _five() -> Json:
    rows = [
        {
            "name": name,
            **{"seeds": 2 if at == 1 else 1, "of_seeds": 3 if at == 1 else 1, "missing": []},
            "aspects": {aspect: _score(aspect, at, 5 * n) for n, aspect in enumerate(ASPECTS)},
            "mean_of_aspects": {
                "mean": 2.6 + 0.4 * at,
                "low": 2.5 + 0.4 * at,
                "high": 2.7 + 0.4 * at,
            },
            "question_weighted": {"mean": 2.5 + 0.4 * at, "low": None, "high": None},
        }
        for at, name in enumerate(RUNS)
    ]
    rows[2] |= {"mean_of_aspects": None, "question_weighted": None, "missing": ASPECTS[3:]}
    rows[2]["aspects"] = {aspect: rows[2]["aspects"][aspect] for aspect in ASPECTS[:3]}
    mean = {"mean": 0.4, "low": -0.1, "high": 0.9}
    differences = [{"a": RUNS[1], "b": RUNS[0], "mean_of_aspects": mean, "excludes_zero": False}]
    names = {"dataset": "vcgbench", "judge": LABELS[MODEL], "judge_slug": MODEL}
    return {**names, "rows": rows, "differences": differences}


def _curve(at: int) -> Json:
    steps = list(range(1, 1001))
    return {
        "step": steps,
        "loss": [2 / (1 + step / 150) + 0.5 + 0.1 * at + 0.05 * ((step * 7) % 5) for step in steps],
        "lr": [2e-5 * min(1, step / 30) * (1001 - step) / 1000 for step in steps],
        "val": [None if step % 250 else 1.9 - step / 1000 for step in steps] if at else None,
    }


def _cost(run: str) -> Json:
    return {
        **{"run": run, "dataset": "msvd-qa", "split": "test", "judge": LABELS[MODEL]},
        **{"generate_s": None if run == "base" else 61.25, "new_tokens": 12345, "truncated": 2},
        **{"judge_prompt_tokens": 234567, "judge_completion_tokens": 8901},
    }


def _video(at: int) -> str:
    return f"clip_{at // 5:03d}"


def _qa_part() -> Json:
    keys = {f"{judge} qa": judge for judge in (OFFLINE, MODEL)}
    marks = {
        name: {
            key: "".join(qa_mark(run, judge, at) for at in range(NUM_QA))
            for key, judge in keys.items()
        }
        for run, name in enumerate(RUNS)
    }
    samples = [
        _sample(
            at,
            f"q{at:05d}",
            TYPES[at % 3],
            {name: {key: marks[name][key][at] for key in keys} for name in RUNS},
        )
        for at in range(NUM_QA)
    ]
    index = _index(samples, marks, frames=True)
    videos = index["videos"]
    strips = {
        f"p0-frames-{n}": {video: _frames(video) for video in videos[start : start + FRAME_SHARD]}
        for n, start in enumerate(range(0, len(videos), FRAME_SHARD))
    }
    return {"p0-index": index, **_shards("p0", samples), **strips}


def _five_part() -> Json:
    keys = [f"{MODEL} {aspect}" for aspect in ASPECTS[:3]]
    marks = {
        name: {key: "".join(score_mark(run, at) for at in range(NUM_FIVE)) for key in keys}
        for run, name in enumerate(RUNS)
    }
    samples = [
        _sample(
            at, f"g{at:05d}", "", {name: {k: marks[name][k][at] for k in keys} for name in RUNS}
        )
        for at in range(NUM_FIVE)
    ]
    return {"p1-index": _index(samples, marks, frames=False), **_shards("p1", samples)}


def _index(samples: list[Json], marks: Json, frames: bool) -> Json:
    videos = sorted({sample["video"] for sample in samples})
    types = sorted({sample["type"] for sample in samples})
    return {
        "ids": [sample["id"] for sample in samples],
        "video": [videos.index(sample["video"]) for sample in samples],
        "videos": videos,
        "paths": ["clip.webm" if at == 0 else None for at in range(len(videos))],
        "types": types,
        "type": [types.index(sample["type"]) for sample in samples],
        "marks": marks,
        "frame_at": [at // FRAME_SHARD if frames else -1 for at in range(len(videos))],
    }


def _shards(key: str, samples: list[Json]) -> Json:
    starts = range(0, len(samples), SHARD)
    return {f"{key}-samples-{n}": samples[at : at + SHARD] for n, at in enumerate(starts)}


def _sample(at: int, name: str, kind: str, marks: dict[str, dict[str, str]]) -> Json:
    question = {3: EVIL, 4: CHINESE}.get(at, f"What happens in number {at}?")
    return {
        **{"id": name, "video": _video(at), "type": kind, "question": question, "question2": None},
        "answer": "跳舞" if at == 4 else f"reference {at}",
        "runs": {run: _answer(at, run, found) for run, found in marks.items()},
    }


def _answer(at: int, run: str, marks: dict[str, str]) -> Json:
    lost = "l" in marks.values()
    pred = EVIL if at == 3 else "跳舞" if at == 4 else f"answer {at} of {run[:9]}"
    return {
        **{"pred": None if lost else pred, "pred2": None, "lost": "truncated" if lost else None},
        "finish": None if lost else "length" if at % 9 == 0 else "stop",
        **{"exact": None if lost else at % 2 == 0, "f1": None if lost else 0.25},
        "verdicts": {
            key: _verdict(at, mark) | _seeds(3 if run == RUNS[1] else 1, mark)
            for key, mark in marks.items()
        },
    }


def _verdict(at: int, mark: str) -> Json:
    outcomes = {"l": "lost", "p": "parse_failure", "a": "api_failure", "r": "refused"}
    outcomes["n"] = "not_asked"
    outcome = outcomes.get(mark, "ok")
    correct = {"+": True, "-": False}.get(mark)
    score = float(mark) if mark.isdecimal() else None if correct is None else 4.0 * correct
    reply = f"{EVIL} because" if at == 3 else f'{{"score": {score}}}' if outcome == "ok" else None
    return {
        **{"outcome": outcome, "correct": correct, "score": score, "reply": reply},
        "reason": "" if outcome == "ok" else f"reason of {outcome}",
    }


def _seeds(seeds: int, mark: str) -> Json:
    """All seeds were judged as the first was, and one of several says otherwise."""
    if mark not in "+-012345":
        return {"judged_seeds": 0, "right_seeds": None}
    return {"judged_seeds": seeds, "right_seeds": seeds // 2 + 1 if mark in "+-" else None}


def _frames(video: str) -> list[str]:
    return [_jpeg(hash_of(video), at) for at in range(8)]


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return sum(map(ord, text))


def _jpeg(shade: int, at: int) -> str:
    image = Image.new("RGB", (64, 48), ((shade * 37) % 256, 28 * at, 120))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()
