"""Judgements as Video-ChatGPT's scripts leave them, read back as verdicts.

A file `<video name>_<k>.json` is `[{"pred": "yes", "score": 4}, {"q", "a", "pred"}]`, of the five
aspects `[{"score": 4.8}, …]`; the scripts also join all of them to one `{"<video name>_<k>": …}`.
k counts rows of the file that was judged, which need not be ours: judgements are therefore joined
by what was asked and answered. The scripts print means of scores cut to whole numbers; here a
score stays what the judge said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.folders import JUDGES, read_judged, read_predictions
from eval.judges.base import BEST, Cost, JudgeItem, JudgeRecord, Verdict
from eval.published_rows import PublishedRow, join, published_row
from features.annotations import QASample
from features.config import Aspect
from features.errors import RedVillmError


class PublishedJudge:
    """Somebody's judgements in the place of a judge, so that they are summarised as any other's."""

    def __init__(self, name: str, verdicts: Sequence[Verdict]) -> None:
        self.record = JudgeRecord("replay", name)
        self._verdicts = {(verdict.sample_id, verdict.aspect): verdict for verdict in verdicts}

    def __call__(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """What was said of each."""
        return [self._verdicts.get((i.sample_id, i.aspect)) or _not_asked(i) for i in items]

    def estimate(self, items: Sequence[JudgeItem]) -> Cost:
        """Nothing."""
        return Cost()


def earlier_judgements(folder: Path, name: str, aspects: Sequence[Aspect]) -> list[Verdict]:
    """What was read before for aspects other than these, unless the answers changed since.

    Args:
        folder: our evaluation folder.
        name: the name of who judged.
        aspects: those that are read now.
    """
    try:
        before = read_judged(folder / JUDGES / JudgeRecord("replay", name).slug)
    except RedVillmError:  # nothing whole, or of other answers
        return []
    return [verdict for verdict in before.verdicts if verdict.aspect not in aspects]


def read_judgements(
    where: Path, folder: Path, aspect: Aspect, id_prefix: str = ""
) -> list[Verdict]:
    """A published judgement of answers that we hold; a verdict for every question.

    Args:
        where: folder of such files, or the joined file.
        folder: our evaluation folder with the answers that were judged.
        aspect: what they were judged for; the files do not say it.
        id_prefix: of the split, in front of the files' video names.

    Returns:
        Verdicts in the order of predictions.jsonl. An answer that no file judges is `not_asked`.

    Raises:
        RedVillmError: not such files, they judge other answers than ours, or it is open which.
    """
    judged = _read(where)
    rows = read_predictions(folder)
    samples = [_sample(row) for row in rows]
    by_place = {row.where: said for row, said in judged}
    found = join([row for row, _ in judged], samples, id_prefix)
    verdicts = []
    for ours in rows:
        name = ours["sample_id"]
        theirs = found.get(name)
        if theirs is None:
            lost = ours["lost"] is not None
            reason = ours["lost"] if lost else "no judgement of it in the files"
            verdicts.append(Verdict(name, aspect, "lost" if lost else "not_asked", reason=reason))
            continue
        got, wanted = (theirs.pred, theirs.pred2), (ours["pred"], ours["pred2"])
        if got != wanted:
            what = "another answer than ours was judged"
            raise RedVillmError(what, where=theirs.where, got=got, wanted=wanted)
        verdicts.append(_verdict(name, aspect, by_place[theirs.where]))
    return verdicts


def _not_asked(item: JudgeItem) -> Verdict:
    reason = "no judgement of this aspect is given"
    return Verdict(item.sample_id, item.aspect, "not_asked", reason=reason)


def _read(where: Path) -> list[tuple[PublishedRow, Any]]:
    """What was judged, with what the judge said of it."""
    wanted = "<video name>_<k>.json files, or their joined file"
    try:
        if where.is_dir():
            files = sorted(where.glob("*.json"))
            named = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
        else:
            named = json.loads(where.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RedVillmError("cannot read", where=where, got=error, wanted=wanted) from error
    if not isinstance(named, dict) or not named:
        raise RedVillmError("no judgements", where=where, wanted=wanted)
    pairs = []
    for name, content in named.items():
        place = f"{where}, {name}"
        if not isinstance(content, list) or len(content) != 2 or not isinstance(content[1], dict):
            raise RedVillmError("not a judgement", where=place, wanted='[{"score"}, {"q", "a"}]')
        # of the zero-shot sets other projects name the files by question id
        facts = {**content[1], "id": name, "video_name": name.rpartition("_")[0] or name}
        pairs.append((published_row(facts, place), content[0]))
    return pairs


def _verdict(name: str, aspect: Aspect, said: object) -> Verdict:
    reply = json.dumps(said, ensure_ascii=False)
    fields: Mapping[str, Any] = said if isinstance(said, dict) else {}
    correct = {"yes": True, "no": False}.get(str(fields.get("pred")).strip(" .").lower())
    try:
        score = float(fields["score"])
    except (KeyError, TypeError, ValueError):
        score = -1.0
    if not 0 <= score <= BEST or (aspect == "qa" and correct is None):
        reason = "no score of 0 to 5, or no yes or no"
        return Verdict(name, aspect, "parse_failure", reply=reply, reason=reason)
    return Verdict(name, aspect, "ok", correct if aspect == "qa" else None, score, reply)


def _sample(row: Mapping[str, Any]) -> QASample:
    fields = ("sample_id", "video_id", "question", "answer", "type", "question2")
    return QASample(*(row[field] for field in fields))
