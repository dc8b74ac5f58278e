"""Checkpoints x benchmarks x judges: only what is missing, failures alone, Ray as without."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from tiny_eval import TinyEval, make_tiny_eval, save_run

from eval.folders import META, PREDICTIONS, eval_folder, read_predictions
from eval.generate import GenerateConfig
from features.config import BaseConfig
from features.errors import ConfigError
from features.translation import Translation
from pipelines.__main__ import main
from pipelines.eval_jobs import Job, benchmark_parts, find_checkpoints, name_rows
from pipelines.eval_ray import answer_on_ray

MARK = "REDVILLM_TEST_REEVAL=1"
ANSWERS = GenerateConfig(batch_size=4, max_new_tokens=4, dtype="float64", device="cpu")
OPTIONS = [word for name in ("batch_size", "max_new_tokens") for word in (f"--{name}", "4")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, base: BaseConfig) -> TinyEval:
    world = make_tiny_eval(tmp_path_factory.mktemp("tiny"))
    for number, name in enumerate(("untuned/seed-0", "ours/seed-0", "ours/seed-1")):
        save_run(world.runs / name, base, world.store, number)
    return world


@pytest.fixture
def world(made: TinyEval, tmp_path: Path) -> TinyEval:
    """The same with runs of its own, unevaluated."""
    shutil.copytree(made.root / "runs", tmp_path / "runs")
    (tmp_path / "features").symlink_to(made.root / "features")
    return TinyEval(tmp_path, made.store, made.recipe)


def reeval(world: TinyEval, *more: str, benchmarks: str | None = None) -> int:
    names = benchmarks or f"{world.recipe}:val+test"
    where = ["--checkpoints", f"{world.runs}/*/seed-*", "--features", world.features]
    out = ["--out", str(world.root / "out"), "--judge_cache", str(world.root / "cache")]
    return main(["reeval", "--benchmarks", names, *where, *out, *OPTIONS, *more])


def stamps(world: TinyEval) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in world.runs.glob(f"*/*/eval/*/*/{PREDICTIONS}")}


def test_every_cell_is_computed_once_and_compared_with_the_untuned_row(
    world: TinyEval, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reeval(world, "--min_coverage", "0.5") == 0
    first = stamps(world)
    assert len(first) == 6, "three runs, two splits"
    report = json.loads((world.root / "out" / "report.json").read_text())
    tables = {table["split"]: table for table in report["tables"]}
    assert set(tables) == {"val", "test"}
    for table in tables.values():
        assert {row["name"]: row["seeds"] for row in table["rows"]} == {"untuned": 1, "ours": 2}
        assert {(d["a"], d["b"]) for d in table["differences"]} == {("ours", "untuned")}
        assert table["rows"][0]["all"]["asked"] == 24
        assert table["rows"][0]["all"]["lost"] == 4, "one video of six could not be used"
    assert (world.root / "out" / "report" / "index.html").is_file()
    assert "6 evaluations, 0 failed" in capsys.readouterr().out
    assert reeval(world, "--min_coverage", "0.5") == 0
    assert stamps(world) == first, "nothing was answered again"


def test_below_the_coverage_there_is_no_number(world: TinyEval) -> None:
    assert reeval(world) == 2
    report = json.loads((world.root / "out" / "report.json").read_text())
    for table in report["tables"]:
        for row in table["rows"]:
            assert row["all"]["accuracy"] is None
            assert "20 of 24" in row["refused"]


def test_one_failing_item_does_not_stop_the_others(
    world: TinyEval, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = world.runs / "ours" / "seed-1" / "projectors" / "projectors.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    assert reeval(world) == 2
    out = capsys.readouterr().out
    assert "4 evaluations, 2 failed" in out
    assert "seed-1 on tiny val" in out
    report = json.loads((world.root / "out" / "report.json").read_text())
    assert {row["name"]: row["seeds"] for row in report["tables"][0]["rows"]} == {
        "untuned": 1,
        "ours": 1,
    }


def test_what_is_asked_wrongly_stops_before_anything_is_computed(
    world: TinyEval, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reeval(world, "--baseline", "untund") == 2
    assert "did you mean untuned" in capsys.readouterr().err
    assert reeval(world, benchmarks=f"{world.recipe}:tset") == 2
    assert "did you mean test" in capsys.readouterr().err
    assert reeval(world, "--judge", "ofline") == 2
    assert "did you mean offline" in capsys.readouterr().err
    assert stamps(world) == {}


def test_an_estimate_computes_no_judgement(
    world: TinyEval, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reeval(world, "--estimate") == 0
    assert capsys.readouterr().out.count("0 requests") == 6
    assert not list(world.runs.glob("*/*/eval/*/*/judges"))


def test_two_wordings_of_a_question_are_judged_together(world: TinyEval) -> None:
    assert reeval(world, "--min_coverage", "0.5", benchmarks=f"{world.recipe}:pairs") == 0
    folder = eval_folder(world.runs / "ours" / "seed-0", "tiny", "pairs")
    answered = [row for row in read_predictions(folder) if row["pred"] is not None]
    assert len(answered) == 5
    assert all(row["question2"] and row["pred2"] is not None for row in answered)
    report = json.loads((world.root / "out" / "report.json").read_text())
    assert report["tables"][0]["aspect"] == "consistency"
    assert report["tables"][0]["rows"][0]["all"]["score"] is not None


def test_translated_answers_are_judged_where_they_are_and_made_nowhere(
    world: TinyEval, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reeval(world) == 2  # a video is lost
    run = world.runs / "ours/seed-0"
    old, new = (eval_folder(run, "tiny", split) for split in ("test", "test.zh-en"))
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("judges"))
    meta = json.loads((new / META).read_text())
    said = Translation("predictions", "zh-en", "deepl", "cd" * 32, 24)
    (new / META).write_text(json.dumps(meta | {"translations": [asdict(said)]}))
    before = {path: path.read_bytes() for path in new.iterdir()}
    capsys.readouterr()
    more = ["--resume", "false", "--min_coverage", "0.5"]  # which starts all other answers over
    assert reeval(world, *more, benchmarks=f"{world.recipe}:val+test.zh-en") == 2
    told = capsys.readouterr()
    shown = " ".join(told.out.split())
    assert "no translated answers" in shown  # of the other two runs
    assert "predictions translated" in shown
    assert "4 evaluations, 2 failed" in shown
    assert {path: path.read_bytes() for path in before} == before
    report = json.loads((world.root / "out/report.json").read_text())
    found = {t["split"]: [row["name"] for row in t["rows"]] for t in report["tables"]}
    assert found == {"val": ["ours", "untuned"], "test.zh-en": ["ours"]}


def test_names_of_rows() -> None:
    runs = [
        Path(p) for p in ("r/a/x/seed-0", "r/a/x/seed-1", "r/b/y/seed-0", "share/y", "r/a/z/seed-0")
    ]
    assert {name: len(found) for name, found in name_rows(runs).items()} == {
        "x": 2,
        "b/y": 1,
        "share/y": 1,
        "z": 1,
    }


def test_names_of_benchmarks(world: TinyEval) -> None:
    named = [(d.name, s) for d, s in benchmark_parts("vcgbench msvd-qa:val tgif-frameqa demo")]
    assert named == [
        ("vcgbench", "generic"),
        ("vcgbench", "temporal"),
        ("vcgbench", "consistency"),
        ("msvd-qa", "val"),
        ("tgif-qa", "test"),
        ("demo", "test"),
    ]
    twice = benchmark_parts("tgif-frameqa tgif-qa:test msvd-qa:test+test msvd-qa")
    assert [(d.name, s) for d, s in twice] == [("tgif-qa", "test"), ("msvd-qa", "test")]
    one = world.runs / "ours" / "seed-0"
    found = find_checkpoints(f"{one} {one.parent}/../ours/seed-* {one}")
    names = sorted(path.name for path in found)
    assert names == ["seed-0", "seed-1"], "each once, however it is spelt"
    with pytest.raises(ConfigError, match="did you mean val"):
        benchmark_parts("msvd-qa:vla")
    with pytest.raises(ConfigError, match="no run folder"):
        find_checkpoints(str(world.root / "nowhere*"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    name, _, value = MARK.partition("=")
    os.environ[name] = value  # inherited by the cluster's processes: how we know ours
    facts = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **facts})
    made.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    made.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    ray.init(address=made.address, log_to_driver=False)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        del os.environ[name]


def jobs_of(world: TinyEval) -> list[Job]:
    parts = benchmark_parts(f"{world.recipe}:val+test+pairs")
    return [
        Job(run, dataset, split, world.features)
        for run in find_checkpoints(f"{world.runs}/*/seed-*")
        for dataset, split in parts
    ]


def rows_of(world: TinyEval) -> dict[str, list[dict[str, Any]]]:
    return {
        str(path.parent.relative_to(world.runs)): sorted(
            read_predictions(path.parent), key=lambda row: str(row["sample_id"])
        )
        for path in stamps(world)
    }


def kill_a_worker(world: TinyEval, killed: list[int]) -> None:
    """SIGKILL to one that has written answers and is not done."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not killed:
        if any(path.stat().st_size for path in world.runs.glob("*/*/eval/*/*/predictions*.jsonl")):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    command = (folder / "cmdline").read_bytes()
                    ours = MARK.encode() in (folder / "environ").read_bytes()
                except OSError:
                    continue
                if ours and command.startswith(b"ray::_Answerer.answer"):
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed.append(int(folder.name))
                    return
        time.sleep(0.002)


@pytest.mark.timeout(900)  # three nodes share the cores with other tests
def test_three_nodes_give_the_answers_of_one_process_though_a_worker_is_killed(
    world: TinyEval, cluster: Cluster
) -> None:
    serial = TinyEval(world.root / "serial", world.store, world.recipe)
    shutil.copytree(world.root / "runs", serial.root / "runs")
    (serial.root / "features").symlink_to(world.root / "features")
    for job in jobs_of(serial):
        job.answer(ANSWERS)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(world, killed))
    killer.start()
    found = list(answer_on_ray(jobs_of(world), ANSWERS, workers=3))
    killer.join()
    assert len(killed) == 1
    assert [folder for _, folder in found if isinstance(folder, str)] == []
    assert len(found) == 9
    assert rows_of(world) == rows_of(serial)


def test_fewer_jobs_than_workers_are_cut_and_merged_by_id(
    world: TinyEval, cluster: Cluster
) -> None:
    [job] = [j for j in jobs_of(world) if j.split == "test" and "ours/seed-0" in str(j.run)]
    ((_, folder),) = answer_on_ray([job], ANSWERS, workers=3)
    assert isinstance(folder, Path)
    assert [path.name for path in folder.glob("predictions*.jsonl")] == [PREDICTIONS]
    by_ray = read_predictions(folder)
    shutil.rmtree(folder)
    alone = read_predictions(job.answer(ANSWERS))
    assert sorted(by_ray, key=lambda row: str(row["sample_id"])) == sorted(
        alone, key=lambda row: str(row["sample_id"])
    )


def test_a_job_that_fails_on_ray_is_named_and_the_others_are_done(
    world: TinyEval, cluster: Cluster
) -> None:
    (world.runs / "ours" / "seed-0" / "projectors" / "config.json").write_text("{}")
    found = list(answer_on_ray(jobs_of(world), ANSWERS, workers=2))
    bad = [f"{job.run.parent.name}/{job.run.name}" for job, f in found if isinstance(f, str)]
    assert len(found) == 9
    assert bad == ["ours/seed-0"] * 3


def test_more_workers_than_places_do_not_wait_for_ever(world: TinyEval, cluster: Cluster) -> None:
    jobs = jobs_of(world)[:2]
    found = list(answer_on_ray(jobs, ANSWERS, workers=20))
    assert [folder for _, folder in found if isinstance(folder, str)] == []
    assert len(found) == 2


def test_starting_over_on_ray_keeps_the_answers_of_what_cannot_be_answered(
    world: TinyEval, cluster: Cluster
) -> None:
    [good, bad] = [job for job in jobs_of(world) if job.split == "val"][:2]
    folders = [job.answer(ANSWERS) for job in (good, bad)]
    before = [path.read_bytes() for folder in folders for path in folder.glob(PREDICTIONS)]
    lost = replace(bad, features="nowhere")
    again = replace(ANSWERS, resume=False, max_new_tokens=2)
    errors = [folder for _, folder in answer_on_ray([good, lost], again, 2)]
    assert sum("no features" in str(folder) for folder in errors) == 1
    now = [path.read_bytes() for folder in folders for path in folder.glob(PREDICTIONS)]
    assert now[0] != before[0]
    assert now[1] == before[1]
