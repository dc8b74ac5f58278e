"""On a real local Ray cluster, started once: the same bytes whoever works, and whoever dies."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from extract.options import ExtractConfig
from extract.run import ExtractSummary, extract, extract_all
from features.config import BaseConfig, DatasetConfig
from features.errors import StoreError
from features.store import verify_store

ray = pytest.importorskip("ray")
MARK = f"REDVILLM_TEST_CLUSTER={uuid4().hex}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    name, _, value = MARK.partition("=")
    os.environ[name] = value  # inherited by the cluster's processes: how we know ours
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
    )
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
def run(base: BaseConfig, world: DatasetConfig) -> Callable[..., ExtractSummary]:
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
    end = time.monotonic() + 500
    while not killed and time.monotonic() < end:
        if len(list(store_root.glob("world/*/commits/*.json"))) >= 2:
            killed += tower_pids()[:1]
            os.kill(killed[0], signal.SIGKILL)
        time.sleep(0.01)


@pytest.mark.timeout(900)  # its actors share the cores with other tests
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
def test_several_specs_on_ray(
    base: BaseConfig, world: DatasetConfig, serial: ExtractSummary, tmp_path: Path
) -> None:
    facts = {"videos_per_shard": 3, "batch_size": 20, "device": "cpu", "specs": "8 4"}
    both = [
        extract_all(ExtractConfig(tmp_path / name, executor=name, **facts), base, world)  # type: ignore[arg-type]
        for name in ("serial", "ray")
    ]
    assert [s.content_digest for s in both[0]] == [s.content_digest for s in both[1]]
    assert both[1][0].ok == both[1][1].ok == serial.ok
    assert both[0][0].run is not None
    assert both[1][0].run is not None
    assert both[0][0].run.images == both[1][0].run.images


NAMED = "ray_redvillm_extract_"


def scrape() -> dict[str, float]:
    """Our metrics of the cluster's only node, by name and status."""
    (node,) = ray.nodes()
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if line.startswith(NAMED):
            status = re.search(r'status="([^"]*)"', line)
            name = line.partition("{")[0] + (f" {status[1]}" if status else "")
            found[name] = found.get(name, 0) + float(line.rpartition(" ")[2])
    return found


def settled() -> dict[str, float]:
    """Our metrics once the agent has heard of all that was done before."""
    before, now = None, scrape()
    while now != before:
        time.sleep(2)
        before, now = now, scrape()
    return now


@pytest.mark.usefixtures("cluster")
def test_prometheus_can_follow_a_run(
    run: Callable[..., ExtractSummary], serial: ExtractSummary, tmp_path: Path
) -> None:
    before = settled()
    run(tmp_path, "ray", 1)
    assert serial.run is not None
    videos = {"ok": 14, "missing": 1, "not-a-video": 1}
    wanted: dict[str, float] = {f"{NAMED}videos_total {key}": n for key, n in videos.items()}
    wanted[f"{NAMED}images_total"] = serial.run.images
    for _ in range(240):  # the node's agent reports twice a second, of one process after the other
        after = scrape()
        seen = {name: after.get(name, 0) - before.get(name, 0) for name in wanted}
        if seen == wanted:
            break
        time.sleep(0.25)
    assert seen == wanted
    assert after[f"{NAMED}encode_seconds_total"] > 0


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
