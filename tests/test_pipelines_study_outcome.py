"""results.json against naive counts over made-up run folders."""

from __future__ import annotations

import json
import random
import shutil
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from judged_runs import OFFLINE, answer_rows, exactly, save_judged, scored
from naive_bootstrap import naive_bootstrap, naive_crossed

from eval.folders import eval_folder
from eval.judges.base import Verdict
from eval.report.build import Part
from features.config import Aspect
from features.errors import ConfigError, RedVillmError
from pipelines.study.cells import Cell, Done, Use
from pipelines.study.claims import VERDICTS
from pipelines.study.outcome import outcome, write_results
from pipelines.study.recipe import ClaimConfig, RowConfig, StudyConfig, TableConfig
from train.options import TrainConfig
from train.projectors import ProjectorSwitches

QUESTIONS = 40
MODULE = TableConfig(
    "4",
    "Effect of the temporal module",
    "temporal module",
    rows=(RowConfig("shared", {"temporal_module": "shared"}), RowConfig("copy")),
    claims=(
        ClaimConfig("copy over shared", "It improves order.", "copy", "shared"),
        ClaimConfig("as good", "It is as good.", "copy", "shared", measure="content", kind="close"),
    ),
)
FRAMES = TableConfig(
    "6",
    "Effect of frames",
    "frames",
    rows=(RowConfig("few", frames={"mini": 2}), RowConfig("middle")),
    claims=(ClaimConfig("few limit", "Few frames limit.", "middle", "few", measure="all"),),
    curve=True,
)
STUDY = StudyConfig("little", "mini", "demo", (MODULE, FRAMES))
FACTS: dict[str, Any] = {
    "study": "little",
    "quick": False,
    "split": "test",
    "base": "mini",
    "bases": [{"name": "mini", "digest": "d1"}, {"name": "mini-b", "digest": "d2"}],
    "dataset": "demo",
    "experiment": "red-villm",
    "benchmarks": [{"dataset": "demo", "split": "test"}],
    "judge": "offline-em-f1-2",
    "frozen": None,
}
RUNS = [("mini", 0), ("mini", 1), ("mini-b", 0), ("mini-b", 1)]


def made_up(seed: int, chance: float, questions: int = QUESTIONS) -> list[str | None]:
    rng = random.Random(seed)
    return ["red" if rng.random() < chance else "blue" for _ in range(questions)]


def add_cell(
    root: Path,
    name: str,
    preds: Iterable[str | None],
    switches: ProjectorSwitches | None = None,
    frames: int = 8,
    **metrics: Any,
) -> Done:
    """A finished cell whose answers to the demo's test split are given."""
    run = save_judged(root / "cells" / name, answer_rows(preds))
    (run / "config.yaml").write_text("train: {lr: 2.0e-4, epochs: 3, batch_size: 16}\n")
    config = TrainConfig(switches=switches or ProjectorSwitches())
    cell = Cell(config, name.split("_")[0], frames, "test")
    answers = (eval_folder(run, "demo", "test"),)
    facts = {"seconds": 12.5, "steps": 750} | metrics
    return Done(cell, f"{name:x<64}", run, answers, OFFLINE.slug, facts)


def make_study(root: Path, budgets: tuple[str, ...] = ("long",)) -> dict[Use, Done]:
    """Both tables with two bases and two seeds; RED-VILLM itself stands in both."""
    shared = ProjectorSwitches(temporal_module="shared")
    uses = {}
    for budget in budgets:
        for number, (base, seed) in enumerate(RUNS):
            at = f"{base}_{seed}_{budget}"
            copy = add_cell(root, f"{at}_copy", made_up(number, 0.8))
            less = add_cell(root, f"{at}_shared", made_up(number + 10, 0.4), shared)
            few = add_cell(root, f"{at}_few", made_up(number + 20, 0.6), frames=2)
            uses[Use("4", "shared", base, seed, budget)] = less
            uses[Use("4", "copy", base, seed, budget)] = copy
            uses[Use("6", "few", base, seed, budget)] = few
            uses[Use("6", "middle", base, seed, budget)] = copy
    return uses


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Use, Done]]:
    root = tmp_path_factory.mktemp("study")
    return root, make_study(root)


def record_of(world: tuple[Path, Mapping[Use, Done]], **options: Any) -> dict[str, Any]:
    options = {"study": STUDY, "facts": FACTS | {"root": str(world[0])}, "whys": {}} | options
    return outcome(uses=world[1], **options)


def percent(seed: int, chance: float, first: int = 0, step: int = 1) -> list[float]:
    return [100.0 * (pred == "red") for pred in made_up(seed, chance)[first::step]]


def test_facts_and_counts_head_the_record(world: tuple[Path, dict[Use, Done]]) -> None:
    found = record_of(world)
    assert {name: found[name] for name in FACTS} == FACTS
    head = {name: found[name] for name in ("schema", "kind", "questions", "videos")}
    assert head == {"schema": 2, "kind": "qa", "questions": QUESTIONS, "videos": QUESTIONS // 2}
    assert "sign-flip" in found["method"]
    assert set(found["measures"]) == {"temporal", "content", "all"}


def test_cells_stand_in_order_with_naive_scores_and_intervals(
    world: tuple[Path, dict[Use, Done]],
) -> None:
    cells = record_of(world)["cells"]
    assert [(c["table"], c["row"], c["base"], c["seed"]) for c in cells] == [
        (table, row, base, seed)
        for table, row in [("4", "shared"), ("4", "copy"), ("6", "few"), ("6", "middle")]
        for base, seed in RUNS
    ]
    (cell,) = [c for c in cells if (c["row"], c["base"], c["seed"]) == ("shared", "mini-b", 1)]
    temporal, content = percent(13, 0.4, 1, 2), percent(13, 0.4, 0, 2)
    for measure, values, videos in [
        ("temporal", temporal, [f"v{i}" for i in range(20)]),
        ("content", content, [f"v{i}" for i in range(20)]),
        ("all", percent(13, 0.4), [f"v{i // 2}" for i in range(40)]),
    ]:
        wanted = dict(
            zip(("mean", "low", "high"), naive_bootstrap(values, videos, 0, 2000), strict=True)
        )
        assert cell["scores"][measure] == pytest.approx(wanted, abs=0.005 + 1e-9), measure
    settings = cell.pop("settings")
    assert settings["temporal_module"] == "shared"
    assert settings["features"] == "both"
    wanted = {"lr": 2e-4, "epochs": 3, "batch_size": 16, "data": 1.0}
    assert {name: settings[name] for name in wanted} == wanted
    del cell["scores"]
    assert cell == {
        "table": "4",
        "row": "shared",
        "reading": "",
        "base": "mini-b",
        "seed": 1,
        "budget": "long",
        "split": "test",
        "cell": "mini-b_1_long_sh",
        "num_frames": 8,
        "steps": 750,
        "train_s": 12.5,
        "answer_s": 2.5,
        "run": "cells/mini-b_1_long_shared",
        "asked": QUESTIONS,
        "judged": QUESTIONS,
        "lost": {},
    }


def test_a_row_is_the_mean_of_its_runs_with_the_naive_crossed_interval(
    world: tuple[Path, dict[Use, Done]],
) -> None:
    table = record_of(world)["tables"][0]
    row = table["rows"][1]
    assert (row["row"], row["budget"], row["reading"], row["x"]) == ("copy", "long", "", None)
    assert row["pairs"] == 4
    runs = [percent(number, 0.8, 1, 2) for number in range(4)]
    videos, bases = [f"v{i}" for i in range(20)], [base for base, _ in RUNS]
    mean, low, high = naive_crossed(runs, videos, bases)
    sd = statistics.stdev(statistics.fmean(run) for run in runs)
    wanted = {"mean": mean, "low": low, "high": min(100.0, high), "sd": sd}
    assert row["scores"]["temporal"] == pytest.approx(wanted, abs=0.005 + 1e-9)


def test_claims_pair_the_same_base_and_seed(world: tuple[Path, dict[Use, Done]]) -> None:
    claims = record_of(world)["claims"]
    assert [claim["claim"] for claim in claims] == ["copy over shared", "as good", "few limit"]
    first, close, few = claims
    differences = [
        statistics.fmean(percent(number, 0.8, 1, 2))
        - statistics.fmean(percent(number + 10, 0.4, 1, 2))
        for number in range(4)
    ]
    assert first["pairs"] == [
        {"base": base, "seed": seed, "difference": pytest.approx(difference, abs=0.005)}
        for (base, seed), difference in zip(RUNS, differences, strict=True)
    ]
    assert min(differences) > 0
    assert (first["n"], first["p"], first["verdict"]) == (4, 0.125, "undecided")
    assert first["difference"] == pytest.approx(statistics.fmean(differences), abs=0.005)
    assert first["low"] < first["difference"] < first["high"]
    assert first["why"] == (
        "Not looked into. 4 pairs: the sign-flip test cannot fall below p = 0.125, "
        "and 0.05 is wanted."
    )
    assert (first["measure"], first["kind"], first["more"]) == ("temporal", "more", "copy")
    assert (first["paper"], first["beyond"], first["margin"]) == (True, None, 5.0)
    # Holm over the two claims of kind more: 2 x 0.125, and not below it.
    assert first["p_holm"] == 0.25
    assert close["p_holm"] is None
    assert few["p_holm"] == max(0.25, few["p"])
    assert all(claim["headline"] for claim in claims)


def test_reasons_are_those_of_the_verdict(world: tuple[Path, dict[Use, Done]]) -> None:
    whys = {"4/copy over shared": {"holds": "Good.", "undecided": "Too few runs.\n"}}
    claims = record_of(world, whys=whys)["claims"]
    assert claims[0]["why"].startswith("Too few runs. 4 pairs:")
    assert claims[1]["why"].startswith("Not looked into.")
    with pytest.raises(ConfigError, match="did you mean 4/copy over shared"):
        record_of(world, whys={"4/copy ower shared": {}})
    with pytest.raises(ConfigError, match="did you mean undecided"):
        record_of(world, whys={"4/copy over shared": {"undecidet": ""}})


def test_a_reason_is_given_to_the_headline_alone_and_when_all_its_runs_are_there(
    tmp_path: Path,
) -> None:
    uses = make_study(tmp_path, budgets=("long", "default"))
    whys = {"4/copy over shared": dict.fromkeys(VERDICTS, "Looked into.")}
    found = record_of((tmp_path, uses), whys=whys)["claims"]
    said = {c["budget"]: c["why"] for c in found if c["claim"] == "copy over shared"}
    assert said["long"].startswith("Looked into.")
    assert said["default"].startswith("What was looked into is the budget that heads")
    missing = [*uses, Use("4", "copy", "mini", 9, "long"), Use("4", "shared", "mini", 9, "long")]
    part = record_of((tmp_path, uses), whys=whys, planned=missing)["claims"][0]
    assert (part["n"], part["planned"]) == (4, 5)
    assert part["why"].startswith("Not looked into.")


def test_the_same_folders_give_the_same_bytes_in_any_order_and_place(
    world: tuple[Path, dict[Use, Done]], tmp_path: Path
) -> None:
    root, uses = world
    write_results(tmp_path / "first.json", record_of(world))
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    others = {
        use: replace(
            done,
            run=moved / done.run.relative_to(root),
            answers=tuple(moved / folder.relative_to(root) for folder in done.answers),
        )
        for use, done in reversed(uses.items())
    }
    write_results(tmp_path / "second.json", record_of((moved, others)))
    first = (tmp_path / "first.json").read_bytes()
    assert first == (tmp_path / "second.json").read_bytes()
    assert b"NaN" not in first
    assert str(root).encode() not in first
    assert json.loads(first)["cells"]


def test_half_a_study_lists_every_row_and_claim(world: tuple[Path, dict[Use, Done]]) -> None:
    root, uses = world
    half = {use: done for use, done in uses.items() if use.table == "4" and use.seed == 0}
    del half[Use("4", "shared", "mini-b", 0, "long")]
    found = record_of((root, half), budgets=frozenset({"long", "default"}))
    assert [(c["row"], c["base"]) for c in found["cells"]] == [
        ("shared", "mini"),
        ("copy", "mini"),
        ("copy", "mini-b"),
    ]
    rows = [(r["row"], r["budget"], r["pairs"]) for r in found["tables"][0]["rows"]]
    assert rows == [
        *[("shared", "long", 1), ("shared", "default", 0)],
        *[("copy", "long", 2), ("copy", "default", 0)],
    ]
    assert found["tables"][0]["rows"][0]["scores"]["all"]["sd"] is None
    nothing = dict.fromkeys(("mean", "low", "high", "sd"))
    nothing["why"] = "no finished run has this number"
    scores = found["tables"][1]["rows"][0]["scores"]
    assert scores == dict.fromkeys(("temporal", "content", "all"), nothing)
    claims = [(c["claim"], c["budget"], c["n"], c["headline"]) for c in found["claims"]]
    assert claims == [
        (claim, budget, n if budget == "long" else 0, budget == "long")
        for claim, n in [("copy over shared", 1), ("as good", 1), ("few limit", 0)]
        for budget in ("long", "default")
    ]
    last = found["claims"][-1]
    assert (last["verdict"], last["p"], last["pairs"], last["difference"]) == (
        *("undecided", None),
        [],
        None,
    )
    assert last["why"] == "Not looked into. There is no pair of runs to compare."


def test_what_is_missing_of_what_was_planned_is_counted_and_said(
    world: tuple[Path, dict[Use, Done]],
) -> None:
    root, uses = world
    runs = [(base, seed) for base in ("mini", "mini-b") for seed in range(3)]
    planned = [
        Use(table, row, base, seed, "long")
        for table, row in [("4", "shared"), ("4", "copy"), ("6", "few"), ("6", "middle")]
        for base, seed in runs
    ]
    some = dict(uses)
    del some[Use("4", "shared", "mini", 0, "long")]
    failed = {"f" * 64: "RedVillmError: no memory", "a" * 64: "its worker died"}
    found = record_of((root, some), planned=planned, failed=failed)
    assert found["missing"] == 24 - 15
    assert found["failed"] == [
        {"cell": "a" * 16, "error": "its worker died"},
        {"cell": "f" * 16, "error": "RedVillmError: no memory"},
    ]
    rows = [(r["row"], r["pairs"], r["planned"]) for t in found["tables"] for r in t["rows"]]
    assert rows == [("shared", 3, 6), ("copy", 4, 6), ("few", 4, 6), ("middle", 4, 6)]
    claims = [(claim["n"], claim["planned"]) for claim in found["claims"]]
    assert claims == [(3, 6), (3, 6), (4, 6)]
    why = "Not looked into. 3 of 6 planned pairs are missing: not run yet, or failed. 3 pairs:"
    assert found["claims"][0]["why"].startswith(why)
    whole = record_of(world)
    assert (whole["missing"], whole["failed"]) == (0, [])
    assert [claim["planned"] for claim in whole["claims"]] == [4, 4, 4]
    assert "missing" not in "".join(claim["why"] for claim in whole["claims"])
    nothing = record_of((root, {}), planned=planned)
    assert (nothing["missing"], nothing["claims"][0]["budget"]) == (24, "long")
    assert nothing["claims"][0]["why"] == (
        "Not looked into. 6 of 6 planned pairs are missing: not run yet, or failed. There is no "
        "pair of runs to compare."
    )


def test_what_is_tested_stands_beside_every_claim(world: tuple[Path, dict[Use, Done]]) -> None:
    assert [claim["tested"] for claim in record_of(world)["claims"]] == [
        "Tested: copy above shared in temporal.",
        "Tested: copy and shared no further apart than 5 points in content.",
        "Tested: middle above few in all.",
    ]


def test_a_run_that_all_seeds_share_counts_once_in_its_row(tmp_path: Path) -> None:
    control = TableConfig("controls", "t", "control", (RowConfig("untuned", untrained=True),))
    first = add_cell(tmp_path, "mini_untuned", made_up(1, 0.3))
    second = add_cell(tmp_path, "mini-b_untuned", made_up(2, 0.9))
    uses = {
        Use("controls", "untuned", base, seed, "long"): done
        for base, done in (("mini", first), ("mini-b", second))
        for seed in range(3 if base == "mini" else 2)
    }
    study = StudyConfig("s", "mini", "demo", (control,))
    row = record_of((tmp_path, uses), study=study)["tables"][0]["rows"][0]
    once = {use: done for use, done in uses.items() if use.seed == 0}
    assert (
        row["scores"] == record_of((tmp_path, once), study=study)["tables"][0]["rows"][0]["scores"]
    )
    assert row["pairs"] == 5
    assert abs(statistics.fmean(percent(1, 0.3)) - statistics.fmean(percent(2, 0.9))) > 40
    means = [statistics.fmean(percent(1, 0.3)), statistics.fmean(percent(2, 0.9))]
    score = row["scores"]["all"]
    assert score["mean"] == pytest.approx(statistics.fmean(means), abs=0.005)
    assert score["sd"] == pytest.approx(statistics.stdev(means), abs=0.005)
    questions = zip(percent(1, 0.3), percent(2, 0.9), strict=True)
    pooled = [statistics.fmean(pair) for pair in questions]
    of_videos = [statistics.fmean(pooled[i : i + 2]) for i in range(0, QUESTIONS, 2)]
    half = 2.093024 * statistics.stdev(of_videos) / 20**0.5  # t(19) by table
    assert score["high"] - score["mean"] == pytest.approx(half, abs=0.011)


def test_a_benchmark_without_temporal_questions_says_so(tmp_path: Path) -> None:
    uses = {}
    for use, done in make_study(tmp_path).items():
        plain = save_judged(
            tmp_path / "plain" / use.table / f"{done.fingerprint[:20]}",
            answer_rows(["red"] * QUESTIONS, types=("motion",)),
        )
        uses[use] = replace(done, run=plain, answers=(eval_folder(plain, "demo", "test"),))
    found = record_of((tmp_path, {use: done for use, done in uses.items() if use.table == "4"}))
    why = "the benchmark has no such questions"
    row, cell = found["tables"][0]["rows"][0], found["cells"][0]
    assert row["scores"]["temporal"]["why"] == cell["scores"]["temporal"]["why"] == why
    assert row["scores"]["temporal"]["mean"] is cell["scores"]["temporal"]["mean"] is None
    assert row["scores"]["content"]["mean"] == 100.0
    temporal, content, _ = found["claims"]
    assert temporal["why"] == "Not looked into. The benchmark has no such questions."
    assert content["n"] == 4
    assert "judged" not in temporal["why"]


def test_a_validation_split_that_is_judged_in_another_way_has_no_scores(tmp_path: Path) -> None:
    rate = TableConfig(
        "rate",
        "t",
        "times",
        (RowConfig("1"), RowConfig("2", lr=2.0)),
        (ClaimConfig("faster", "Faster is better.", "2", "1"),),
        split="val",
    )
    aspects: tuple[Aspect, ...] = ("correctness", "detail", "context", "temporal", "consistency")
    five = five_cell(tmp_path, "five", {aspect: [3.0] * 4 for aspect in aspects})
    five = replace(five, cell=replace(five.cell, split="val"))
    uses = make_study(tmp_path) | {Use("rate", row, "mini", 0, "long"): five for row in ("1", "2")}
    study = StudyConfig("s", "mini", "demo", (MODULE, FRAMES, rate))
    found = record_of((tmp_path, uses), study=study)
    assert (found["kind"], found["questions"]) == ("qa", QUESTIONS)
    assert found["claims"][0]["n"] == 4
    why = "its split is judged in another way than the study's, which has another unit"
    for entry in (found["tables"][2]["rows"][0], found["cells"][-1]):
        assert entry["scores"]["all"]["why"] == why
        assert entry["scores"]["all"]["mean"] is None
    assert found["claims"][-1]["why"] == f"Not looked into. I{why[1:]}."
    facts = FACTS | {"split": "val", "root": str(tmp_path)}
    turned = record_of((tmp_path, uses), study=study, facts=facts)
    assert (turned["kind"], turned["cells"][-1]["scores"]["all"]["mean"]) == ("five", 3.0)
    assert turned["cells"][0]["scores"]["all"]["why"] == why


def test_questions_judged_for_aspects_beside_others_are_left_out_and_it_is_said(
    tmp_path: Path,
) -> None:
    def both(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        return Verdict(row["sample_id"], aspect, "ok", None, 2.0)

    uses = {}
    for use, done in make_study(tmp_path).items():
        part = Part("bench", "generic")
        if not eval_folder(done.run, *asdict(part).values()).is_dir():
            rows = answer_rows(["red"] * QUESTIONS)
            save_judged(done.run, rows, part=part, judges=[(OFFLINE, both)], aspects=("detail",))
        answers = (*done.answers, eval_folder(done.run, "bench", "generic"))
        uses[use] = replace(done, answers=answers)
    found, alone = record_of((tmp_path, uses)), record_of((tmp_path, make_study(tmp_path / "a")))
    assert found["kind"] == "qa"
    assert "five aspects is left out" in found["measures"]["all"]
    assert "left out" not in alone["measures"]["all"]
    assert found["cells"][0]["asked"] == 2 * QUESTIONS
    assert [c["scores"] for c in found["cells"]] == [c["scores"] for c in alone["cells"]]


def test_a_study_that_has_not_begun_has_a_record() -> None:
    found = outcome(STUDY, {}, FACTS | {"root": "."}, {})
    assert (found["cells"], found["questions"], found["kind"]) == ([], 0, "qa")
    assert {claim["verdict"] for claim in found["claims"]} == {"undecided"}
    assert {claim["budget"] for claim in found["claims"]} == {"default"}


def test_what_was_lost_or_not_judged_is_counted_and_no_score(tmp_path: Path) -> None:
    uses = make_study(tmp_path)
    preds: list[str | None] = ["red"] * 200
    big = {
        use: add_cell(tmp_path, f"big_{use.table}_{use.row}_{use.base}_{use.seed}", preds)
        for use in uses
        if use.table == "4"
    }
    lost = Use("4", "copy", "mini", 0, "long")
    big[lost] = add_cell(tmp_path, "lost", [None, *preds[:-1]])
    half = Use("4", "copy", "mini", 1, "long")

    def flaky(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        if number % 50 == 3:
            return Verdict(row["sample_id"], aspect, "api_failure", reason="down")
        return exactly(number, row, aspect)

    run = save_judged(
        tmp_path / "cells" / "half",
        answer_rows([None, *preds[:-1]]),
        judges=[(OFFLINE, flaky)],
    )
    big[half] = replace(
        big[half], run=run, fingerprint="h" * 64, answers=(eval_folder(run, "demo", "test"),)
    )
    found = record_of((tmp_path, big))
    cells = {(c["row"], c["base"], c["seed"]): c for c in found["cells"]}
    one = cells["copy", "mini", 0]
    assert (one["asked"], one["judged"], one["lost"]) == (200, 199, {"truncated": 1})
    assert one["scores"]["all"]["mean"] == 100.0
    other = cells["copy", "mini", 1]
    assert (other["asked"], other["judged"]) == (200, 195)
    assert other["lost"] == {"api_failure": 4, "truncated": 1}
    assert other["scores"]["temporal"] == {
        **dict.fromkeys(("mean", "low", "high")),
        "why": "too few of its questions are judged",
    }
    assert [row["pairs"] for row in found["tables"][0]["rows"]] == [4, 3]
    claim = found["claims"][0]
    assert [(pair["base"], pair["seed"]) for pair in claim["pairs"]] == [RUNS[0], *RUNS[2:]]
    assert "1 pair is left out: less than 99% of a run's questions were judged." in claim["why"]


def test_curves_are_drawn_over_frames_share_or_rate(tmp_path: Path) -> None:
    data = TableConfig(
        "data", "t", "share", (RowConfig("half", data=0.5), RowConfig("1")), curve=True
    )
    rate = TableConfig(
        "rate", "t", "times", (RowConfig("twice", lr=2.0), RowConfig("1")), curve=True, split="val"
    )
    uses = make_study(tmp_path)
    found = record_of(
        (tmp_path, uses), study=StudyConfig("s", "mini", "demo", (MODULE, FRAMES, data, rate))
    )
    xs = {t["table"]: [row["x"] for row in t["rows"]] for t in found["tables"]}
    assert xs == {"4": [None, None], "6": [2.0, 8.0], "data": [0.5, 1.0], "rate": [2.0, 1.0]}
    assert [t["split"] for t in found["tables"]] == ["test", "test", "test", "val"]


def test_readings_repeat_rows_and_claims(tmp_path: Path) -> None:
    frames = replace(FRAMES, readings=True)
    uses = {
        Use("6", row, "qwen", seed, "default", reading): add_cell(
            tmp_path, f"qwen_{row}_{seed}_{reading}", made_up(seed, chance)
        )
        for seed in range(2)
        for row, chance in (("few", 0.4), ("middle", 0.6))
        for reading in ("A", "B")
    }
    later = replace(frames, table="7", claims=())
    found = record_of((tmp_path, uses), study=StudyConfig("s", "mini", "demo", (frames, later)))
    assert [t["readings"] for t in found["tables"]] == [["A", "B"], ["A", "B"]]
    rows = [(row["row"], row["reading"], row["pairs"]) for row in found["tables"][0]["rows"]]
    assert rows == [("few", "A", 2), ("few", "B", 2), ("middle", "A", 2), ("middle", "B", 2)]
    claims = [(c["reading"], c["headline"], c["n"]) for c in found["claims"]]
    assert claims == [("A", True, 2), ("B", False, 2)]


def five_cell(root: Path, name: str, scores: Mapping[Aspect, list[float]]) -> Done:
    """A cell judged for the five aspects: three of one split, and one each of two others."""
    run, size = root / "cells" / name, len(scores["temporal"])
    for split, aspects in {
        "generic": ("correctness", "detail", "context"),
        "temporal": ("temporal",),
        "consistency": ("consistency",),
    }.items():

        def judge(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
            return scored(scores[aspect])(number, row, aspect)

        save_judged(
            run,
            answer_rows(["red"] * size, types=("",), pairs=split == "consistency"),
            part=Part("bench", split),
            judges=[(OFFLINE, judge)],
            aspects=aspects,
        )
    answers = [eval_folder(run, "bench", s) for s in ("temporal", "generic", "consistency")]
    random.Random(name).shuffle(answers)  # in whatever order they were made
    cell = Cell(TrainConfig(), "mini", 8, "test")
    return Done(cell, f"{name:y<64}", run, tuple(answers), OFFLINE.slug, {})


def test_of_five_aspects_every_aspect_counts_alike(tmp_path: Path) -> None:
    rng, size, uses, made = random.Random(5), 12, {}, {}
    aspects: tuple[Aspect, ...] = ("correctness", "detail", "context", "temporal", "consistency")
    for seed in range(6):
        for row, best in (("shared", 3), ("copy", 5)):
            scores = {a: [float(rng.randint(best - 3, best)) for _ in range(size)] for a in aspects}
            made[row, seed] = {a: statistics.fmean(values) for a, values in scores.items()}
            done = five_cell(tmp_path, f"{row}{seed}", scores)
            uses[Use("4", row, "mini", seed, "default")] = done
    found = record_of((tmp_path, uses), study=StudyConfig("s", "mini", "demo", (MODULE,)))
    assert (found["kind"], found["questions"], found["videos"]) == ("five", 3 * size, size // 2)
    assert "0.05 of a score" in found["method"]

    def content(row: str, seed: int) -> float:
        return statistics.fmean(made[row, seed][a] for a in aspects[:3])

    for cell in found["cells"]:
        means = made[cell["row"], cell["seed"]]
        assert (cell["asked"], cell["judged"], cell["answer_s"]) == (5 * size, 5 * size, 7.5)
        assert (cell["steps"], cell["settings"]["lr"]) == (None, None)
        wanted = {
            **means,
            "content": content(cell["row"], cell["seed"]),
            "all": statistics.fmean(means.values()),
        }
        assert {m: s["mean"] for m, s in cell["scores"].items()} == pytest.approx(wanted, abs=5e-4)
        assert list(cell["scores"]) == list(found["measures"]) == [*aspects, "content", "all"]
    claim, close = found["claims"]
    assert (claim["verdict"], claim["p"], claim["n"]) == ("holds", round(2 / 64, 4), 6)
    differences = [content("copy", s) - content("shared", s) for s in range(6)]
    assert close["difference"] == pytest.approx(statistics.fmean(differences), abs=5e-4)
    assert close["verdict"] == "does not hold"  # 0.05 apart at most, and they are about 2
    one = replace(MODULE, claims=(replace(MODULE.claims[0], measure="consistency"),))
    (alone,) = record_of((tmp_path, uses), study=StudyConfig("s", "mini", "demo", (one,)))["claims"]
    consistency = [
        made["copy", s]["consistency"] - made["shared", s]["consistency"] for s in range(6)
    ]
    assert alone["difference"] == pytest.approx(statistics.fmean(consistency), abs=5e-4)


def test_a_claim_about_an_aspect_is_undecided_where_no_question_is_judged_for_it(
    tmp_path: Path,
) -> None:
    one = replace(MODULE, claims=(replace(MODULE.claims[0], measure="detail"),))
    study = StudyConfig("s", "mini", "demo", (one, FRAMES))
    found = record_of((tmp_path, make_study(tmp_path)), study=study)
    assert list(found["measures"]) == ["temporal", "content", "all"]
    assert found["claims"][0]["verdict"] == "undecided"
    assert "The benchmark has no such questions." in found["claims"][0]["why"]


def test_cells_of_other_questions_or_rows_are_refused(tmp_path: Path) -> None:
    uses = make_study(tmp_path)
    stray = Use("4", "random", "mini", 0, "long")
    with pytest.raises(RedVillmError, match=r"no row .*'random'"):
        record_of((tmp_path, uses | {stray: uses[Use("4", "copy", "mini", 0, "long")]}))
    fewer = add_cell(tmp_path, "fewer", made_up(0, 0.5, QUESTIONS - 2))
    with pytest.raises(RedVillmError, match="different questions"):
        record_of((tmp_path, uses | {Use("4", "copy", "mini", 0, "long"): fewer}))
    bare = replace(fewer, judge="nobody")
    with pytest.raises(RedVillmError, match="no finished evaluation"):
        record_of((tmp_path, {Use("4", "copy", "mini", 0, "long"): bare}))
