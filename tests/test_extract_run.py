from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from extract_zygote import Zygote
from rich.console import Console

from extract.decode_child import DecodeChild
from extract.meter import Usage
from extract.options import ExtractConfig, parse_part, uses_ray
from extract.progress import RunProgress
from extract.run import extract
from extract.shard_builder import ShardBuilder
from extract.tower import Tower, load_tower
from extract.video import DecodedVideo, DecodeRequest, View
from features.config import BaseConfig, DatasetConfig
from features.durable import file_sha256
from features.errors import ConfigError, RedVillmError, StoreError, VideoError
from features.plan import PlanRow
from features.store import FeatureStore, verify_store

Clip = Callable[..., Path]
LENGTHS = [32, 5, 1, 32, 20, 32, 9, 32, 32, 3, 32, 32, 16]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> DatasetConfig:
    """13 videos of different lengths and one that is damaged: 5 shards of 3."""
    root = tmp_path_factory.mktemp("world")
    for index, length in enumerate(LENGTHS):
        clip(root / f"sub{index % 2}" / f"v{index:02d}.mp4", num_frames=length, seed=index)
    whole = (root / "sub0" / "v00.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return DatasetConfig("world", root)


def config_of(folder: Path, **facts: object) -> ExtractConfig:
    wanted = {
        "videos_per_shard": 3,
        "batch_size": 20,
        "device": "cpu",
        "executor": "serial",
        **facts,
    }
    return ExtractConfig(folder, **wanted)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, base: BaseConfig, world: DatasetConfig
) -> tuple[Path, str]:
    """An undisturbed run: its store and content digest."""
    summary = extract(config_of(tmp_path_factory.mktemp("whole")), base, world)
    assert (summary.planned, summary.done, summary.ok) == (14, 14, 13)
    assert summary.failed == {"truncated": 1}
    assert summary.waiting == 0
    return summary.store, summary.content_digest


def test_features_equal_a_plain_loop(
    whole: tuple[Path, str], base: BaseConfig, world: DatasetConfig
) -> None:
    store = FeatureStore(whole[0])
    tower = load_tower(base, device="cpu")
    with DecodeChild() as child:
        for video_id in store.ids:
            path = world.videos / f"{video_id}.mp4"
            request = DecodeRequest(str(path), (View(8, "crop-bicubic"),), 32)
            video = child.decode(request)
            frames = video.view()
            tokens = np.concatenate([tower.encode(frame[None]).numpy() for frame in frames])
            found = store[video_id]
            assert found.num_frames == len(frames)
            np.testing.assert_allclose(found.temporal, tokens.mean(1), rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(found.spatial, tokens.mean(0), rtol=2e-3, atol=2e-3)
            assert len(store.thumbs(video_id)) == len(video.frames)
    assert store.failures["cut"][0] == "truncated"
    assert verify_store(whole[0]).problems == ()
    record = json.loads((whole[0] / "last_run.json").read_text())
    assert record["content_digest"] == whole[1] == store.content_digest


def test_a_second_run_does_nothing(
    whole: tuple[Path, str], base: BaseConfig, world: DatasetConfig
) -> None:
    again = extract(config_of(whole[0].parent.parent), base, world)
    assert (again.done, again.ok, again.content_digest) == (0, 13, whole[1])


def test_hdf5_and_no_thumbnails_give_the_same_content(
    whole: tuple[Path, str], base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    other = extract(config_of(tmp_path, format="hdf5", thumbs=0), base, world)
    assert other.content_digest == whole[1]
    assert FeatureStore(other.store).thumbs("sub0/v00") == []


def test_published_checksums_find_what_no_decoder_can(
    whole: tuple[Path, str], base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    lines = [
        f"{file_sha256(path)}  {path.relative_to(world.videos)}"
        for path in sorted(world.videos.rglob("*.mp4"))
    ]
    (tmp_path / "sums.txt").write_text("\n".join(lines))
    checked = dataclasses.replace(world, checksums=tmp_path / "sums.txt")
    assert extract(config_of(tmp_path / "a"), base, checked).content_digest == whole[1]
    lines[3] = "0" * 64 + lines[3][64:]
    (tmp_path / "sums.txt").write_text("\n".join(lines))
    summary = extract(config_of(tmp_path / "b"), base, checked)
    assert summary.failed == {"damaged": 1, "truncated": 1}


def test_two_parts_equal_the_whole(
    whole: tuple[Path, str], base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    first = extract(config_of(tmp_path, part="2/2"), base, world)
    assert (first.done, first.waiting) == (6, 8)
    second = extract(config_of(tmp_path, part="1/2"), base, world)
    assert (second.done, second.waiting, second.content_digest) == (8, 0, whole[1])


def test_new_videos_alone_are_extracted_later(
    base: BaseConfig, world: DatasetConfig, tmp_path: Path, clip: Clip
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(world.videos, videos)
    mine = DatasetConfig("mine", videos)
    first = extract(config_of(tmp_path / "f"), base, mine)
    markers = {p: p.read_bytes() for p in first.store.glob("commits/*.json")}
    clip(videos / "a-new-one.mp4", seed=77)
    shutil.copy(videos / "sub0" / "v00.mp4", videos / "cut.mp4")  # repaired
    second = extract(config_of(tmp_path / "f"), base, mine)
    assert (second.done, second.ok, second.failed) == (2, 15, {})
    assert all(path.read_bytes() == data for path, data in markers.items())
    moved = DatasetConfig("mine", videos.rename(tmp_path / "elsewhere"))
    assert extract(config_of(tmp_path / "f"), base, moved).done == 0


def test_wanted_ids_without_a_file_are_rows(
    base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    wanted = ["sub0/v00", "nowhere", "cut"]
    summary = extract(config_of(tmp_path), base, world, wanted)
    assert (summary.planned, summary.ok) == (3, 1)
    assert summary.failed == {"missing": 1, "truncated": 1}
    assert "no file" in FeatureStore(summary.store).failures["nowhere"][1]
    retry = extract(config_of(tmp_path, retry_failed=True), base, world, wanted)
    assert (retry.done, retry.ok) == (2, 1)


def test_rotten_input_stops_the_run_and_keeps_what_is_done(
    base: BaseConfig, world: DatasetConfig, tmp_path: Path
) -> None:
    config = config_of(tmp_path, max_failures=0.01)
    with pytest.raises(RedVillmError, match=r"1 of 14 \(truncated 1\)"):
        extract(config, base, world)
    assert len(list(tmp_path.glob("world/*/commits/*.json"))) == 1
    summary = extract(config, base, world)  # the failure is known now and is not met again
    assert (summary.done, summary.failed) == (11, {"truncated": 1})


def test_a_changed_file_of_a_finished_video_is_refused(
    base: BaseConfig, clip: Clip, tmp_path: Path
) -> None:
    mine = DatasetConfig("mine", tmp_path / "videos")
    clip(mine.videos / "a.mp4")
    extract(config_of(tmp_path), base, mine)
    clip(mine.videos / "a.mp4", seed=5)
    with pytest.raises(StoreError, match="finished video changed"):
        extract(config_of(tmp_path), base, mine)


def test_bad_options(base: BaseConfig, world: DatasetConfig, tmp_path: Path) -> None:
    for facts in (
        {"part": "0/2"},
        {"part": "3/2"},
        {"part": "1"},
        {"batch_size": 0},
        {"workers": 0},
    ):
        with pytest.raises(ConfigError, match=next(iter(facts))):
            extract(config_of(tmp_path, **facts), base, world)
    with pytest.raises(ConfigError, match="no videos"):
        extract(config_of(tmp_path), base, world, [])
    with pytest.raises(RedVillmError, match="no folder"):
        extract(config_of(tmp_path), base, DatasetConfig("x", tmp_path / "none"))
    assert parse_part("3/5") == (2, 5)


def test_which_executor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    auto = ExtractConfig(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not uses_ray(auto)
    assert not uses_ray(dataclasses.replace(auto, workers=1))
    assert uses_ray(dataclasses.replace(auto, workers=2))
    assert not uses_ray(dataclasses.replace(auto, workers=2, executor="serial"))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert uses_ray(auto)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_counts_each_video_once(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr("extract.progress._LINE_EVERY_S", 0.0)
    screen = StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120)
    with RunProgress(3, console) as progress:
        progress.video("a", "", Usage(images=8))
        progress.video("b", "truncated", Usage())
        progress.video("b", "truncated", Usage())  # its shard was done again
    assert progress.failed == {"truncated": 1}
    assert "2/3" in screen.getvalue()
    assert "1 failed" in screen.getvalue()


class CountingTower(Tower):
    """Two patches a frame that say which frame it is; notes the size of every batch."""

    def __init__(self) -> None:
        self.num_patches, self.width, self.device = 2, 1, torch.device("cpu")
        self.batches: list[int] = []

    def encode(self, images: np.ndarray) -> torch.Tensor:
        self.batches.append(len(images))
        number = torch.from_numpy(images[:, 0, 0, :1].astype(np.float32))
        return torch.stack([number, number + 100], dim=1)


def video_of(*numbers: int) -> DecodedVideo:
    frames = np.zeros((len(numbers), 1, 1, 3), np.uint8)
    frames[:, 0, 0, 0] = numbers
    chosen = (tuple(range(len(numbers))),)
    return DecodedVideo(frames, tuple(float(n) for n in numbers), chosen, "test", "1")


def test_batches_fill_across_videos_and_pooling_follows_the_video() -> None:
    rows = [PlanRow(name, "", 1, "", 1, 0, i) for i, name in enumerate("abcde")]
    tower = CountingTower()
    builder = ShardBuilder(tower, rows, batch_size=4)
    builder.add(video_of(1, 2, 3))
    builder.add(VideoError("truncated", "cut off"))
    builder.add(video_of(4))
    builder.add(video_of(5, 6, 7, 8, 9, 10))
    with pytest.raises(RuntimeError, match="4 of 5"):
        builder.finish()
    builder.add(video_of(11))
    ((a, b, c, d, e),) = builder.finish()
    assert tower.batches == [4, 4, 2, 1]
    assert (b.status, b.temporal) == ("truncated", None)
    for row, numbers in ((a, [1, 2, 3]), (c, [4]), (d, [5, 6, 7, 8, 9, 10]), (e, [11])):
        assert row.temporal is not None
        assert row.spatial is not None
        np.testing.assert_allclose(row.temporal[:, 0], np.array(numbers) + 50)
        np.testing.assert_allclose(row.spatial[:, 0], np.array([0, 100]) + np.mean(numbers))
        assert row.pts == tuple(map(float, numbers))


@pytest.fixture(scope="module")
def zygote(base: BaseConfig, world: DatasetConfig) -> Iterator[Zygote]:
    running = Zygote(base.checkpoint, world.videos)
    yield running
    running.close()


def digest_in(folder: Path) -> str:
    (store,) = folder.glob("world/*")
    check = verify_store(store)
    assert check.problems == ()
    return check.content_digest


def test_killed_at_any_moment_it_ends_the_same(
    zygote: Zygote, whole: tuple[Path, str], tmp_path: Path
) -> None:
    zygote.run(tmp_path / "warm")
    start = time.monotonic()
    assert zygote.run(tmp_path / "timed") == 0
    seconds = time.monotonic() - start
    rng = random.Random(2)
    moments = [rng.uniform(0.05, 0.6) * seconds for _ in range(4)]
    ends = [zygote.run(tmp_path / "killed", kill_after_s=moment) for moment in moments]
    assert -signal.SIGKILL in ends  # a resumed run may be done before its moment comes
    assert zygote.run(tmp_path / "killed") == 0
    assert digest_in(tmp_path / "killed") == whole[1]


BEFORE = ["written", "synced", "linked"]
CHAINS = {
    "a": [
        *(f"{what}-{step}" for what in ("spec", "plan") for step in BEFORE),
        *("shard-written", "shard-synced", "shard-verified", "thumbs-written", "shard-ready"),
        *(f"marker-{step}" for step in [*BEFORE, "done"]),
        *(f"{what}-{step}" for what in ("index", "summary") for step in ("written", "done")),
    ],
    "b": ["spec-done", "plan-done", "marker-linked:3"],  # a linked file is not linked again
}


@pytest.mark.parametrize("chain", CHAINS)
def test_killed_at_every_commit_point_it_ends_the_same(
    zygote: Zygote, whole: tuple[Path, str], tmp_path: Path, chain: str
) -> None:
    """Each run of a chain resumes the one before and dies at the next point."""
    survived = [p for p in CHAINS[chain] if zygote.run(tmp_path, kill_at=p) != -signal.SIGKILL]
    assert survived == []
    assert zygote.run(tmp_path) == 0
    assert digest_in(tmp_path) == whole[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_and_a_read_only_disk_keep_what_was_committed(
    small_disk: Path, base: BaseConfig, world: DatasetConfig, whole: tuple[Path, str]
) -> None:
    """The run stops with one clear error, and goes on when there is space again."""

    def remount(how: str) -> None:
        command = ["mount", "-o", f"remount,{how}", str(small_disk)]
        subprocess.run(command, check=True)

    def committed() -> list[str]:
        (store,) = small_disk.glob("world/*")
        assert verify_store(store).problems == ()
        return sorted(path.name for path in (store / "commits").glob("0*.json"))

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**20 - 2**18))
    with pytest.raises(StoreError, match="No space left"):
        extract(config_of(small_disk), base, world)
    first = committed()
    assert 1 <= len(first) < 5
    ballast.unlink()
    remount("ro")
    with pytest.raises(StoreError, match="Read-only"):
        extract(config_of(small_disk), base, world)
    assert committed() == first
    remount("rw,size=8m")
    assert extract(config_of(small_disk), base, world).content_digest == whole[1]
