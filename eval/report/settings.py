"""What answers and verdicts depend on, and whether the runs of a table share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eval.judges.base import JudgeRecord
from eval.report.gather import PartResults, RunResults, SeedFacts
from eval.translations import translations_of
from features.errors import few

SETTINGS = (
    *("base", "prompt", "video_order", "spec"),
    *("temperature", "top_k", "sampling_seed", "max_new_tokens"),
    *("batch_size", "device", "dtype", "engine", "versions"),
)
"""Fields of predictions.meta.json that runs may share."""
DECODING = ("temperature", "top_k", "max_new_tokens", "dtype", "engine")
"""Those with which one model gives other answers."""
_NOT_RECORDED = "not recorded"


def fingerprints(parts: Sequence[PartResults]) -> dict[str, str]:
    """What answers and verdicts depend on, from the evaluations' own records, by name.

    What all runs share stands once; else it is said of each run, and of each seed of several. What
    no run recorded is left out. Published answers have their file's digest and nothing else.
    """
    found: dict[str, str] = {}
    seeds = [(part, one, seed) for part in parts for one in part.runs for seed in one.seeds]
    own = [entry for entry in seeds if "source_sha256" not in entry[2].meta]
    found |= _of_each("checkpoint", _values(own, "checkpoint"))
    found |= _of_each("published answers", _values(seeds, "source_sha256"))
    for key in SETTINGS:
        found |= _shared(key, _values(own, key))
    for dataset in dict.fromkeys(part.part.dataset for part in parts):
        here = [entry for entry in own if entry[0].part.dataset == dataset]
        found |= _shared(_at("features", dataset, parts), _values(here, "features"))
    for part in parts:
        here = [entry for entry in seeds if entry[0] is part]
        where = f"{part.part.dataset}, {part.part.split}"
        found |= _shared(_at("annotations", where, parts), _values(here, "annotations"))
        if any(translations_of(meta) for meta in part.metas):
            by = [(_seed_name(one, seed), where, _translators(seed.meta)) for _, one, seed in here]
            found |= _shared(_at("translations", where, parts), by)
    for part in parts:
        for slug, record in part.judges.items():
            found[f"judge {part.labels[slug]}"] = record.digest
            found[f"settings of judge {part.labels[slug]}"] = _judge_settings(record)
    return found


def decoding_warnings(part: PartResults) -> list[str]:
    """What makes the runs of a part's tables hard to compare: other decoding or translators."""
    where = f"{part.part.dataset}, {part.part.split}"
    seeds = [(_seed_name(one, seed), seed.meta) for one in part.runs for seed in one.seeds]
    recorded = [(who, meta) for who, meta in seeds if meta.get("temperature") is not None]
    differing = [text for key in DECODING for text in _differing(key, recorded)]
    found = []
    if differing:
        found.append(f"{where}: answers were decoded differently: {'; '.join(differing)}")
    if len(part.runs) > 1 and len(recorded) < len(seeds):
        names = few([who for who, meta in seeds if meta.get("temperature") is None])
        found.append(f"{where}: how answers were decoded is not recorded of {names}")
    translators: dict[str, list[str]] = {}
    for who, meta in seeds:
        translators.setdefault(_translators(meta), []).append(who)
    if len(translators) > 1:
        told = "; ".join(f"{text} ({few(names)})" for text, names in translators.items())
        found.append(f"{where}: texts were translated differently: {told}")
    return found


_Entry = tuple[PartResults, RunResults, SeedFacts]
_Values = list[tuple[str, str, str]]
"""Who, on what, and the value."""


def _values(entries: Sequence[_Entry], key: str) -> _Values:
    """A setting of each seed; none at all if no seed recorded it."""
    found = [
        (_seed_name(one, seed), f"{part.part.dataset}, {part.part.split}", _text(seed.meta, key))
        for part, one, seed in entries
    ]
    return found if any(value != _NOT_RECORDED for *_, value in found) else []


def _shared(name: str, values: _Values) -> dict[str, str]:
    distinct = {value for *_, value in values}
    return {name: distinct.pop()} if len(distinct) == 1 else _of_each(name, values)


def _of_each(name: str, values: _Values) -> dict[str, str]:
    """By run; by part, too, of a run that differs from part to part."""
    known: dict[str, set[str]] = {}
    for who, _, value in values:
        known.setdefault(who, set()).add(value)
    return {
        f"{name} of {who}" + ("" if len(known[who]) == 1 else f" ({where})"): value
        for who, where, value in values
        if known[who] != {_NOT_RECORDED} or name in SETTINGS
    }


def _at(name: str, where: str, parts: Sequence[PartResults]) -> str:
    return f"{name} ({where})" if len(parts) > 1 else name


def _text(meta: Mapping[str, Any], key: str) -> str:
    value = meta.get(key)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return _NOT_RECORDED if value is None else str(value)


def _translators(meta: Mapping[str, Any]) -> str:
    """By whom, with what decides the texts; how much of it was reviewed is another matter."""
    found = [f"{t.what} {t.direction} by {t.engine} {t.digest[:8]}" for t in translations_of(meta)]
    return ", ".join(dict.fromkeys(found)) or "no translation recorded"


def _judge_settings(record: JudgeRecord) -> str:
    """All fields that say something, but for the name."""
    fields = {key: value for key, value in asdict(record).items() if key != "name"}
    return ", ".join(f"{k} {v}" for k, v in fields.items() if v is not None and v != "")


def _differing(key: str, seeds: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """`temperature 0.0 (a), 0.2 (b)`; nothing where all are alike."""
    who: dict[str, list[str]] = {}
    for name, meta in seeds:
        if key != "top_k" or meta["temperature"] > 0:  # the likeliest token is among any k
            who.setdefault(_text(meta, key), []).append(name)
    if len(who) > 1:
        yield f"{key} " + ", ".join(f"{value} ({few(names)})" for value, names in who.items())


def _seed_name(one: RunResults, seed: SeedFacts) -> str:
    several = len(one.run.seeds) > 1
    return f"{one.run.name} (seed {seed.number + 1})" if several else one.run.name
