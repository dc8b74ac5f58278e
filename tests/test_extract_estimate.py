"""What `extract --dry_run` foretells, against what the run then does; and that it only looks."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from extract.decode_child import DecodeChild
from extract.dry_run import DryRun, dry_run
from extract.estimate import SAMPLE, Estimate, estimate
from extract.meter import Usage
from extract.options import ExtractConfig
from extract.run import ExtractSummary, extract_all
from extract.tower import load_tower
from extract.video import DecodeRequest, View
from features.config import BaseConfig, DatasetConfig
from features.plan import SourceVideo, source_video
from pipelines.__main__ import main

Clip = Callable[..., Path]
Job = tuple[SourceVideo, DecodeRequest]
LENGTHS = [1, 3, 5, 7, 8, 12, 24, 40, 60, 5, 20]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> DatasetConfig:
    root = tmp_path_factory.mktemp("world")
    for index, length in enumerate(LENGTHS):
        clip(root / f"v{index:02d}.mp4", num_frames=length, seed=index)
    return DatasetConfig("world", root)


def jobs_of(world: DatasetConfig, ids: range, num_frames: int = 8) -> list[Job]:
    paths = [world.videos / f"v{index:02d}.mp4" for index in ids]
    view = View(num_frames, "crop-bicubic")
    return [
        (source_video(path.stem, path), DecodeRequest(str(path), (view,), 32)) for path in paths
    ]


def test_a_sample_of_everything_foretells_exactly(base: BaseConfig, world: DatasetConfig) -> None:
    jobs = jobs_of(world, range(SAMPLE))
    told = estimate(jobs, load_tower(base, device="cpu"), batch_size=16)
    with DecodeChild() as child:
        videos = [child.decode(request) for _, request in jobs]
    assert (told.videos, told.sampled, told.failed) == (SAMPLE, SAMPLE, {})
    assert told.usage.images == sum(len(set(video.chosen[0])) for video in videos)
    assert told.thumb_bytes == sum(len(thumb) for video in videos for thumb in video.thumbs)
    cpu = sum(video.cpu_seconds for video in videos)
    assert cpu / 4 < told.usage.decode_cpu_s < cpu * 4
    assert told.usage.rate > 0


def test_a_class_of_sizes_is_as_its_sample(
    base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    """30 copies of each of two files: whichever is drawn, all of its class are the same."""
    jobs = []
    for index in range(60):
        path = tmp_path / f"c{index:02d}.mp4"
        shutil.copy(world.videos / ("v00.mp4" if index < 30 else "v08.mp4"), path)
        (request,) = [request for _, request in jobs_of(world, range(1), 16)]
        jobs.append((source_video(path.stem, path), DecodeRequest(str(path), request.views, 32)))
    random.Random(3).shuffle(jobs)
    told = estimate(jobs, load_tower(base, device="cpu"), batch_size=16)
    # 8 classes of 7 or 8: the fourth holds 30 - 22 = 8 short ones, all others one kind too
    assert told.videos == 60
    assert told.sampled == SAMPLE
    assert told.usage.images == 30 * 1 + 30 * 16


def test_files_that_fail_are_told_and_their_class_is_as_the_others(
    base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    jobs = jobs_of(world, range(6, 9))
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    jobs.append((source_video("bad", bad), DecodeRequest(str(bad), jobs[0][1].views, 32)))
    tower = load_tower(base, device="cpu")
    told = estimate(jobs, tower, batch_size=16)
    assert told.failed == {"not-a-video": 1}
    assert told.usage.images == 4 * 8
    assert estimate(jobs[3:], tower, batch_size=16).usage == Usage()


def test_hours_add_up_on_shared_cores_and_overlap_on_others() -> None:
    told = Estimate(10, 8, {}, Usage(images=72_000, decode_cpu_s=14_400.0, rate=10.0), 0)
    assert told.hours(towers=1, decoders=2, same_cores=True) == pytest.approx(2 + 2)
    assert told.hours(towers=1, decoders=2, same_cores=False) == pytest.approx(2)
    assert told.hours(towers=4, decoders=2, same_cores=False) == pytest.approx(2)
    assert told.hours(towers=4, decoders=16, same_cores=False) == pytest.approx(0.5)
    assert told.decoders_a_tower == pytest.approx(2)
    plan = DryRun(10, (), (), told, "cuda:0", towers=2, decoders=2)
    assert (plan.bottleneck, plan.hours(2)) == ("decoding", pytest.approx(1))
    assert DryRun(10, (), (), told, "cpu", towers=1, decoders=2).bottleneck == "ViT"


def config_of(folder: Path, **facts: object) -> ExtractConfig:
    wanted = {"videos_per_shard": 4, "batch_size": 20, "executor": "serial", "device": "cpu"}
    return ExtractConfig(folder, **{**wanted, "format": "hdf5", **facts})  # type: ignore[arg-type]


def array_bytes(summary: ExtractSummary) -> int:
    """Bytes of the features in a store's HDF5 shards."""
    total = 0
    for path in (summary.store / "shards").glob("*.h5"):
        with h5py.File(path) as file:
            total += sum(file[name].nbytes for name in ("temporal", "spatial"))
    return total


def test_the_plan_is_what_the_run_does(
    base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    wanted = [*(f"v{index:02d}" for index in range(len(LENGTHS))), "nowhere"]
    specs = {"specs": "4 8:squash-nearest", "store_dtype": "float32"}
    config = config_of(tmp_path / "features", **specs)
    plan = dry_run(config, base, world, wanted)
    assert not (tmp_path / "features").exists()
    assert (plan.wanted, plan.missing) == (12, ("nowhere",))
    assert plan.estimate is not None
    assert plan.estimate.videos == 11
    parts = [
        dry_run(config_of(tmp_path / "features", **specs, part=p), base, world, wanted)
        for p in ("1/2", "2/2")
    ]
    assert [[store.waiting for store in part.stores] for part in parts] == [[8, 8], [4, 4]]
    done = extract_all(config, base, world, wanted)
    for store, summary in zip(plan.stores, done, strict=True):
        assert store.store == summary.store
        assert (store.ok, store.failed, store.waiting, store.shards) == (0, {}, 12, 3)
        assert store.shards == len(list((store.store / "shards").glob("*.h5")))
        assert store.bytes == array_bytes(summary)

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = dry_run(config, base, world, wanted)
    assert [(s.ok, s.failed, s.waiting, s.bytes) for s in again.stores] == 2 * [
        (11, {"missing": 1}, 0, 0)
    ]
    assert again.estimate is None
    retry = dry_run(
        config_of(tmp_path / "features", **specs, retry_failed=True), base, world, wanted
    )
    assert [(s.waiting, s.shards) for s in retry.stores] == [(1, 1), (1, 1)]
    assert retry.estimate is None, "there is still no file"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_command_prints_it(
    world: DatasetConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    args = ["--videos", str(world.videos), "--num_frames", "4", "--executor", "serial"]
    assert main(["extract", *args, "--features", str(tmp_path / "f"), "--dry_run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "11 wanted, 11 found, 0 missing",
        "sample: 8 of 11 videos, none failed",
        "bottleneck: ",
        "on so many machines like this one: 1: ",
        "nothing was written",
    ):
        assert words in shown
    assert not list(tmp_path.iterdir())
