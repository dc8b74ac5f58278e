"""Several stores from one pass, an honest report of its time, and towers short of memory."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.decode_child import DecodeChild
from extract.meter import Meter, Usage, run_report
from extract.options import ExtractConfig, parse_share, parse_specs
from extract.run import ExtractSummary, extract, extract_all
from extract.sampling import choose_frames, midpoint_indices
from extract.tower import Tower, load_tower
from extract.video import DecodeRequest, View
from features.config import BaseConfig, DatasetConfig
from features.errors import ConfigError
from features.store import FeatureStore, verify_store

Clip = Callable[..., Path]
LENGTHS = [40, 7, 1, 33, 12]
SPECS = "4 8 16 8:squash-nearest"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> DatasetConfig:
    root = tmp_path_factory.mktemp("world")
    for index, length in enumerate(LENGTHS):
        clip(root / f"v{index}.mp4", num_frames=length, size=(48 if index else 64), seed=index)
    (root / "text.mp4").write_text("this is no video")
    return DatasetConfig("world", root)


def run_with(
    folder: Path, base: BaseConfig, world: DatasetConfig, **facts: object
) -> list[ExtractSummary]:
    wanted = {"videos_per_shard": 4, "batch_size": 20, "executor": "serial", "device": "cpu"}
    return extract_all(ExtractConfig(folder, **{**wanted, **facts}), base, world)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def one_pass(
    tmp_path_factory: pytest.TempPathFactory, base: BaseConfig, world: DatasetConfig
) -> list[ExtractSummary]:
    return run_with(tmp_path_factory.mktemp("pass"), base, world, specs=SPECS)


def test_each_store_is_what_a_run_of_its_own_makes(
    one_pass: list[ExtractSummary], base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    for summary, spec in zip(one_pass, SPECS.split(), strict=True):
        (alone,) = run_with(tmp_path, base, world, specs=spec)
        assert alone.store.name == summary.store.name  # the same fingerprint
        assert (summary.ok, summary.failed) == (5, {"not-a-video": 1})
        ours, theirs = FeatureStore(summary.store), FeatureStore(alone.store)
        assert ours.ids == theirs.ids
        for video_id in ours.ids:
            one, other = ours[video_id], theirs[video_id]
            assert one.num_frames == other.num_frames
            np.testing.assert_allclose(one.temporal, other.temporal, rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(one.spatial, other.spatial, rtol=2e-3, atol=2e-3)
        assert [row.pts for row in rows_of(summary)] == [row.pts for row in rows_of(alone)]
        assert verify_store(summary.store).problems == ()


def rows_of(summary: ExtractSummary) -> list:
    from features.catalog import read_rows

    return list(read_rows(summary.store).values())


def test_every_image_is_encoded_once(one_pass: list[ExtractSummary]) -> None:
    images = 0
    for length in LENGTHS:
        squashed = set(midpoint_indices(length, 8))
        cropped = {i for count in (4, 8, 16) for i in midpoint_indices(length, count)}
        images += len(squashed) + len(cropped)
    report = one_pass[0].run
    assert report is not None
    assert report.images == images
    record = json.loads((one_pass[1].store / "last_run.json").read_text())
    assert record["run"]["images"] == images
    assert record["run"]["over_floor"] >= 0
    assert "x the floor" in str(report)


def test_a_shard_lost_in_one_store_comes_back_with_the_same_bytes(
    one_pass: list[ExtractSummary], base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    """As after a kill between the commits of two stores: the whole unit is encoded again."""
    root = shutil.copytree(one_pass[0].store.parent.parent, tmp_path / "pass")
    (
        root / one_pass[2].store.relative_to(one_pass[2].store.parents[1]) / "commits/000000.json"
    ).unlink()
    again = run_with(root, base, world, specs=SPECS)
    assert [s.content_digest for s in again] == [s.content_digest for s in one_pass]
    assert [s.done for s in again] == [4] * 4


def test_stores_that_were_planned_otherwise_still_share_a_pass(
    one_pass: list[ExtractSummary], base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    run_with(tmp_path, base, world, specs="8", videos_per_shard=3, part="1/2")
    both = run_with(tmp_path, base, world, specs="8 4")
    assert [(s.ok, s.waiting) for s in both] == [(5, 0)] * 2
    for ours, theirs in ((both[0], one_pass[1]), (both[1], one_pass[0])):
        for video_id in FeatureStore(ours.store).ids:
            one, other = (FeatureStore(s.store)[video_id] for s in (ours, theirs))
            np.testing.assert_allclose(one.temporal, other.temporal, rtol=2e-3, atol=2e-3)


def test_choosing_frames_for_several_views() -> None:
    views = [View(3, "crop-bicubic"), View(2, "squash-nearest"), View(5, "crop-bicubic")]
    choice = choose_frames(5, views)
    stacked = [choice.indices[i] for positions in choice.images.values() for i in positions]
    for view, chosen in zip(views, choice.chosen, strict=True):
        assert [stacked[i] for i in chosen] == midpoint_indices(5, view.num_frames)
    assert list(choice.images) == ["crop-bicubic", "squash-nearest"]
    assert len(set(choice.indices)) == len(choice.indices)


def test_the_views_of_one_decode_equal_decodes_of_their_own(world: DatasetConfig) -> None:
    views = (View(5, "crop-bicubic"), View(9, "pad-bicubic"), View(16, "crop-bicubic"))
    path = str(world.videos / "v3.mp4")
    for decoders in (("decord", "pyav"), ("pyav",)):
        with DecodeChild() as child:
            many = child.decode(DecodeRequest(path, views, 32, decoders=decoders))
            for index, view in enumerate(views):
                one = child.decode(DecodeRequest(path, (view,), 32, decoders=decoders))
                np.testing.assert_array_equal(many.view(index), one.view())
                assert many.view_pts(index) == one.view_pts()


@pytest.mark.parametrize(
    ("specs", "num_frames", "named"),
    [
        ("8 8", None, "twice"),
        ("8:upside-down", None, "upside-down"),
        ("0", None, "'?0"),
        ("8", 8, "num_frames"),
    ],
)
def test_wrong_specs_are_refused(
    base: BaseConfig, specs: str, num_frames: int | None, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_specs(ExtractConfig(specs=specs, num_frames=num_frames), base)


def test_specs_and_shares_are_read(base: BaseConfig) -> None:
    views = parse_specs(ExtractConfig(specs="50, 100:squash-nearest"), base)
    assert views == [View(50, "crop-bicubic"), View(100, "squash-nearest")]
    assert parse_specs(ExtractConfig(), base) == [View(8, "crop-bicubic")]
    assert [parse_share(text) for text in ("1%", "0.01", 0.01, "100 %")] == [0.01, 0.01, 0.01, 1.0]
    for wrong in ("one", "101%", -0.1):
        with pytest.raises(ConfigError, match="max_failures"):
            parse_share(wrong)


def test_a_batch_that_does_not_fit_is_halved(
    base: BaseConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tower = load_tower(base, device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8)
    whole = tower.encode(images)
    sizes: list[int] = []
    room, encode = 3, tower._encode

    def small_memory(self: Tower, part: np.ndarray) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(part)

    monkeypatch.setattr(Tower, "_encode", small_memory)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(tower.encode(images), whole, rtol=1e-5, atol=1e-5)
    assert sizes == [10, 5, 3, 3, 3, 1]
    assert "3 images at a time" in caplog.text
    sizes.clear()
    tower.encode(images)
    assert sizes == [3, 3, 3, 1]  # remembered
    room = 0
    with pytest.raises(ConfigError, match="not even one image"):
        tower.encode(images)


def test_a_compiled_tower_computes_the_same(base: BaseConfig) -> None:
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    plain = load_tower(base, device="cpu").encode(images)
    compiled = load_tower(base, device="cpu", compile=True).encode(images)
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)


def test_the_meter_and_the_floor() -> None:
    meter = Meter()
    with meter.phase("encode_s"):
        meter.add(Usage(images=64, rate=32.0))
    usage = meter.take()
    assert (usage.images, usage.rate, meter.take()) == (64, 32.0, Usage())
    used = Usage(images=640, decode_cpu_s=20.0, encode_s=21.0, wait_s=5.0, rate=32.0)
    together = run_report(used, 33.0, towers=1, decoders=2, same_cores=True)
    assert (together.floor_s, together.over_floor) == (30.0, 1.1)
    apart = run_report(used, 33.0, towers=1, decoders=2, same_cores=False)
    assert (apart.floor_s, apart.over_floor) == (20.0, 1.65)


def test_a_run_of_one_spec_gives_one_summary(
    base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="exclude"):
        extract(ExtractConfig(tmp_path, specs="4", num_frames=4), base, world)
