"""Two models side by side, as in the paper's Figure 3, on questions that nobody picked.

The questions are drawn from a seed among all temporal questions that both models answered, whoever
was right. Below stand the totals of all questions, so that a dozen of pictures cannot mislead.
"""

from __future__ import annotations

import base64
import mimetypes
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.folders import JUDGES, EvalFolder, read_judged
from eval.judges.base import Verdict
from eval.metrics import TEMPORAL_TYPES, questions_of
from eval.report.study.page import render
from eval.report.video_paths import address
from eval.translations import split_name, translations_label
from features.durable import replace_file
from features.errors import RedVillmError
from features.plan import load_plan, video_files
from features.store import FeatureStore

LARGEST, LARGEST_TOTAL = 200_000, 5_000_000
"""Bytes of a clip, and of all clips, that go into the page itself."""
_WORDS = {True: "right", False: "wrong", None: "not judged"}
_POLICY = "media-src data: 'self' file:;"


@dataclass(frozen=True)
class Model:
    """One model's answers, by sample."""

    name: str
    rows: Mapping[str, Mapping[str, Any]]
    """Their types by name."""
    verdicts: Mapping[str, Verdict]

    def right(self, sample: str) -> bool | None:
        """None where the judge does not say."""
        verdict = self.verdicts.get(sample)
        return verdict.correct if verdict and verdict.outcome == "ok" else None

    def word(self, sample: str) -> str:
        """`right`, `wrong` or `not judged`."""
        return _WORDS[self.right(sample)]


def write_comparison_page(
    models: Sequence[tuple[str, Path]],
    judge_slug: str,
    store: FeatureStore | None,
    videos: Path | None,
    out: Path,
    draw: int = 12,
    seed: int = 0,
) -> Path:
    """Write the comparison of two models; returns `out`.

    Args:
        models: name and folder of answers (eval/folders.py) of each: of several seeds, the first.
        judge_slug: name of the judge's folder; both were judged by it, for right and wrong.
        store: where frame strips come from.
        videos: folder of the videos' files; where None, those that the store's plan names.
        out: the page; small clips are inside, larger ones are linked.
        draw: how many questions are shown; all if there are fewer.
        seed: of the draw.

    Raises:
        RedVillmError: not two models, an unfinished evaluation, answers to other questions, no
            right and wrong, or no temporal question that both answered.
    """
    if len(models) != 2:
        raise RedVillmError("a comparison is of two models", got=[name for name, _ in models])
    judged = [read_judged(folder / JUDGES / judge_slug) for _, folder in models]
    pair = [_model(name, one) for (name, _), one in zip(models, judged, strict=True)]
    _check_same_questions(pair, judged)
    candidates = _candidates(pair)
    drawn = draw_samples(candidates, draw, seed)
    rows = [pair[0].rows[sample] for sample in drawn]
    shown = [row["video_id"] for row in rows]
    clips = _clips(_files(shown, store, videos), out.parent)
    meta, label = judged[0].meta, translations_label(one.meta for one in judged)
    html = render(
        "comparison.html",
        policy=_POLICY,
        models=pair,
        judge=judged[0].judge.label,
        dataset=meta["dataset"],
        split=split_name(meta),
        translations=f" - {label}" if label else "",
        seed=seed,
        candidates=len(candidates),
        questions=[
            (sample, row, clips.get(row["video_id"]), strip)
            for sample, row, strip in zip(drawn, rows, _strips(shown, store), strict=True)
        ],
        outcomes=["both", *(f"only {model.name}" for model in pair), "neither"],
        totals=list(_totals(pair)),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, html, "comparison")
    return out


def draw_samples(candidates: Sequence[str], draw: int, seed: int) -> list[str]:
    """`draw` of the sorted candidates without replacement (numpy's default_rng), sorted by id."""
    names = sorted(candidates)
    chosen = np.random.default_rng(seed).choice(len(names), min(draw, len(names)), replace=False)
    return [names[at] for at in sorted(chosen.tolist())]


def _model(name: str, judged: EvalFolder) -> Model:
    said = judged.predictions
    types = [question.type for question in questions_of(said, judged.meta["type_names"])]
    rows = {row["sample_id"]: {**row, "type": t} for row, t in zip(said, types, strict=True)}
    verdicts = {v.sample_id: v for v in judged.verdicts if v.aspect == "qa"}
    if all(verdict.correct is None for verdict in verdicts.values()):
        got = sorted({verdict.aspect for verdict in judged.verdicts})
        wanted = "verdicts of right and wrong (aspect qa)"
        raise RedVillmError("cannot compare scores", where=judged.path, got=got, wanted=wanted)
    return Model(name, rows, verdicts)


def _check_same_questions(pair: Sequence[Model], judged: Sequence[EvalFolder]) -> None:
    asked = [
        {
            sample: (row["question"], row["answer"], row["type"])
            for sample, row in model.rows.items()
        }
        for model in pair
    ]
    if asked[0] != asked[1]:
        where = " and ".join(str(one.path.parents[1]) for one in judged)
        do = "evaluate both on the same split of the same annotations"
        raise RedVillmError("the two models were asked other questions", where=where, do=do)


def _candidates(pair: Sequence[Model]) -> list[str]:
    """Temporal questions that both answered; what was said of the answers plays no part."""
    first, second = pair
    found = [
        sample
        for sample, row in first.rows.items()
        if row["type"] in TEMPORAL_TYPES and row["pred"] is not None
        if second.rows[sample]["pred"] is not None
    ]
    if not found:
        kinds = sorted({str(row["type"]) for row in first.rows.values()})
        wanted = f"questions of type {' or '.join(sorted(TEMPORAL_TYPES))} that both answered"
        raise RedVillmError("nothing to draw from", got=f"types {kinds}", wanted=wanted)
    return found


def _strips(shown: Sequence[str], store: FeatureStore | None) -> list[list[str]]:
    """Each video's frames as JPEG in base64; nothing where the store has none."""
    known = [video for video in dict.fromkeys(shown) if store is not None and video in store]
    strips = store.each_thumbs(known) if store is not None else iter(())
    found = {
        video: [base64.b64encode(jpeg).decode() for jpeg in strip]
        for video, strip in zip(known, strips, strict=True)
    }
    return [found.get(video, []) for video in shown]


def _files(
    shown: Sequence[str], store: FeatureStore | None, videos: Path | None
) -> dict[str, Path]:
    """Each video's file; of two of one id the first."""
    if videos is not None:
        found = video_files(videos)
        return {video: found[video][0] for video in shown if video in found}
    planned = {} if store is None else load_plan(store.path).latest()
    return {v: Path(planned[v].path) for v in shown if v in planned and planned[v].path}


def _clips(files: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Addresses of the files that there are, for a page in `folder`; small ones' own bytes."""
    found, total = {}, 0
    for video, path in files.items():
        if (link := address(path, folder)) is None:
            continue
        size = path.stat().st_size
        if small := size < LARGEST and total + size <= LARGEST_TOTAL:
            total += size
        found[video] = _data(path) if small else link
    return found


def _data(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _totals(pair: Sequence[Model]) -> Iterator[tuple[str, int, int, list[int]]]:
    """Of each type and of all: asked, judged of both, and how often who was right."""
    kinds: dict[str, list[str]] = {}
    for sample, row in pair[0].rows.items():
        kinds.setdefault(str(row["type"]), []).append(sample)
    for kind, samples in [*sorted(kinds.items()), ("all questions", list(pair[0].rows))]:
        said = [(pair[0].right(sample), pair[1].right(sample)) for sample in samples]
        both = Counter(one for one in said if None not in one)
        counts = [both[one] for one in ((True, True), (True, False), (False, True), (False, False))]
        yield kind, len(samples), both.total(), counts
