"""One extraction on a three-node Ray cluster from which things are torn: the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from extract_zygote import Zygote

from extract.options import ExtractConfig
from extract.run import extract
from features.config import BaseConfig, DatasetConfig
from features.store import FeatureStore, verify_store

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster

MARK = f"REDVILLM_TEST_CHAOS={uuid4().hex}"
VICTIMS = {
    "tower": (b"ray::_TowerActor",),
    "decode worker": (b"ray::_decode", b"ray::IDLE"),
    "decoder": (b"extract.decode_child",),
}


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def world(kills: int, tmp_path: Path, clip: Callable[..., Path]) -> DatasetConfig:
    """Long enough that every blow falls on a run that has got a little further."""
    root = tmp_path / "world"
    for index in range(videos_for(kills)):
        clip(root / f"v{index:03d}.mp4", num_frames=40 - index % 30, seed=index)
    (root / "text.mp4").write_text("this is no video")
    return DatasetConfig("world", root)


@pytest.fixture
def undisturbed(base: BaseConfig, world: DatasetConfig, tmp_path: Path) -> str:
    config = ExtractConfig(
        tmp_path / "whole",
        videos_per_shard=3,
        batch_size=20,
        device="cpu",
        executor="serial",
    )
    return extract(config, base, world).content_digest


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    name, _, value = MARK.partition("=")
    os.environ[name] = value  # inherited by the cluster's processes: how we know ours
    facts = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **facts})
    try:
        yield made
    finally:
        made.shutdown()
        del os.environ[name]


def pids_of(names: tuple[bytes, ...]) -> list[int]:
    """Processes of our cluster, and their children, whose command has one of these in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            ours = any(name in command for name in names)
            if ours and MARK.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # gone, or not ours to read
    return sorted(found)


def videos_for(kills: int) -> int:
    return 15 * kills


def shards_for(kills: int) -> int:
    return -(-(videos_for(kills) + 1) // 3)


def commits_in(folder: Path) -> int:
    return len(list(folder.glob("world/*/commits/0*.json")))


def tear(
    zygote: Zygote, cluster: Cluster, folder: Path, kills: int, rng: random.Random
) -> list[str]:
    """Run an extraction to its end while killing; returns what was hit.

    One of the two worker nodes is removed in between, once something has been committed.
    """
    nodes = [cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20) for _ in range(2)]
    hit: list[str] = []
    turns = [victim for _ in range(kills) for victim in (*VICTIMS, "driver")]
    turns.insert(2, "node")
    driver = zygote.start(folder, ray=True)
    end = time.monotonic() + 120 + 30 * kills
    shards, before = shards_for(kills), -1
    while len(hit) < kills and time.monotonic() < end:
        if before == (before := commits_in(folder)):
            time.sleep(0.01)
            continue
        if before == shards:
            break
        time.sleep(rng.uniform(0, 0.5))
        victim = turns[len(hit)]
        if victim == "node":
            cluster.remove_node(nodes[rng.randrange(2)], allow_graceful=False)
            hit.append("node")
            continue
        pids = [driver] if victim == "driver" else pids_of(VICTIMS[victim])
        if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
            hit.append(victim)
        if victim == "driver":
            assert zygote.wait() == -signal.SIGKILL
            driver = zygote.start(folder, ray=True)
    assert zygote.wait() == 0
    return hit


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", [5, pytest.param(21, marks=pytest.mark.soak)], indirect=True)
def test_torn_at_random_moments_it_ends_the_same(
    kills: int,
    base: BaseConfig,
    world: DatasetConfig,
    undisturbed: str,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "torn"
    zygote = Zygote(
        base.checkpoint, world.videos, RAY_ADDRESS=cluster.address, RAY_worker_niceness="0"
    )
    try:
        hit = tear(zygote, cluster, folder, kills, random.Random(kills))
    finally:
        zygote.close()
    assert len(hit) == kills
    assert set(hit) == {"node", "driver", *VICTIMS}
    (store,) = folder.glob("world/*")
    found = verify_store(store)
    assert found.problems == ()
    assert FeatureStore(store).ids == tuple(f"v{index:03d}" for index in range(videos_for(kills)))
    assert len(list((store / "commits").glob("0*.json"))) == shards_for(kills)
    assert found.content_digest == undisturbed


@pytest.mark.parametrize("kills", [2], indirect=True)
def test_nodes_without_an_accelerator_decode_for_one_with(
    base: BaseConfig, world: DatasetConfig, undisturbed: str, cluster: Cluster, tmp_path: Path
) -> None:
    """No node but the first has CPUs to lend, no node but the second a place for the tower."""
    if torch.cuda.is_available():
        pytest.skip("the pretended GPU would be taken for a real one")
    facts = {"object_store_memory": 100 * 2**20}
    cluster.add_node(num_cpus=0, num_gpus=1, **facts)
    zygote = Zygote(base.checkpoint, world.videos, RAY_ADDRESS=cluster.address)
    try:
        zygote.start(tmp_path / "apart", ray=True, device="auto")
        assert zygote.wait() == 0
    finally:
        zygote.close()
    (store,) = (tmp_path / "apart").glob("world/*")
    assert verify_store(store).content_digest == undisturbed
    record = json.loads((store / "last_run.json").read_text())
    assert (record["run"]["towers"], record["run"]["decoders"]) == (1, 1)
