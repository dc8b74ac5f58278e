"""On a real local Ray cluster, started once: the same bytes whoever works, and whoever dies."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from extract.options import ExtractConfig
from extract.run import ExtractSummary, extract
from features.config import BaseConfig, DatasetConfig
from features.errors import StoreError
from features.store import verify_store

ray = pytest.importorskip("ray")
MARK = f"REDVILLM_TEST_CLUSTER={uuid4().hex}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    name, _, value = MARK.partition("=")
    os.environ[name] = value  # inherited by the cluster's processes: how we know ours
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    del os.environ[name]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, clip: Callable[..., Path]) -> DatasetConfig:
    root = tmp_path_factory.mktemp("world")
    for index in range(14):
        clip(root / f"v{index:02d}.mp4", num_frames=32 - index, seed=index)
    (root / "text.mp4").write_text("this is no video")
    return DatasetConfig("world", root)


@pytest.fixture(scope="module")
def run(
    mini_dir: Path, world: DatasetConfig, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ExtractSummary]:
    mini = shutil.copytree(mini_dir, tmp_path_factory.mktemp("base") / "mini")
    base = BaseConfig("mini", str(mini), image_size=32, num_frames=8)

    def run_with(folder: Path, executor: str, workers: int | None = None) -> ExtractSummary:
        config = ExtractConfig(
            folder,
            videos_per_shard=3,
            batch_size=20,
            device="cpu",
            executor=executor,  # type: ignore[arg-type]
            workers=workers,
        )
        wanted = [*(f"v{index:02d}" for index in range(14)), "text", "nowhere"]
        return extract(config, base, world, wanted)

    return run_with


@pytest.fixture(scope="module")
def serial(
    tmp_path_factory: pytest.TempPathFactory, run: Callable[..., ExtractSummary]
) -> ExtractSummary:
    summary = run(tmp_path_factory.mktemp("serial"), "serial")
    assert (summary.ok, summary.failed) == (14, {"missing": 1, "not-a-video": 1})
    return summary


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_same_bytes_with_any_number_of_workers(
    run: Callable[..., ExtractSummary], serial: ExtractSummary, tmp_path: Path, workers: int
) -> None:
    summary = run(tmp_path, "ray", workers)
    assert summary.content_digest == serial.content_digest
    assert (summary.done, summary.ok, summary.failed) == (16, 14, serial.failed)
    assert verify_store(summary.store).problems == ()


def tower_pids() -> list[int]:
    """Processes of our own cluster's tower actors."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = MARK.encode() in (folder / "environ").read_bytes()
            if ours and (folder / "cmdline").read_bytes().startswith(b"ray::_TowerActor"):
                found.append(int(folder.name))
        except OSError:
            continue  # gone, or not ours to read
    return found


def kill_a_tower(store_root: Path, killed: list[int]) -> None:
    """Kill a tower actor as soon as the second shard is committed; notes its process id."""
    end = time.monotonic() + 200
    while not killed and time.monotonic() < end:
        if len(list(store_root.glob("world/*/commits/*.json"))) >= 2:
            killed += tower_pids()[:1]
            os.kill(killed[0], signal.SIGKILL)
        time.sleep(0.01)


@pytest.mark.usefixtures("cluster")
def test_a_killed_tower_costs_nothing(
    run: Callable[..., ExtractSummary], serial: ExtractSummary, tmp_path: Path
) -> None:
    killed: list[int] = []
    watcher = threading.Thread(target=kill_a_tower, args=(tmp_path, killed))
    watcher.start()
    summary = run(tmp_path, "ray", 1)
    watcher.join()
    assert len(killed) == 1
    assert summary.content_digest == serial.content_digest
    assert summary.failed == serial.failed


@pytest.mark.usefixtures("cluster")
def test_errors_of_our_own_come_through_as_they_are(
    run: Callable[..., ExtractSummary], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from extract import run as module

    def spoil(store: Path, spec: object) -> Path:
        created = module_create(store, spec)  # type: ignore[arg-type]
        (store / "shards").rmdir()
        (store / "shards").write_text("in the way")
        return created

    module_create = module.create_store
    monkeypatch.setattr(module, "create_store", spoil)
    with pytest.raises(StoreError, match="shards"):
        run(tmp_path, "ray", 1)
