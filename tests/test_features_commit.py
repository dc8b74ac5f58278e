"""Crashes, races and rotten markers, with real processes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from features.commit import Commit
from features.errors import StoreError
from features.plan import Plan, load_plan
from features.spec import FeatureSpec
from features.store import (
    FeatureStore,
    content_digest,
    pending_shards,
    read_statuses,
    verify_store,
    write_shard,
)

SPEC = FeatureSpec("checkpoint", "ab" * 32, 28, "crop-bicubic", num_frames=3)
WORLD = '''
import os, sys, json
from pathlib import Path
import numpy as np
from features.plan import SourceVideo, extend_plan
from features.spec import FeatureSpec
from features.store import *

SPEC = FeatureSpec("checkpoint", "ab" * 32, 28, "crop-bicubic", num_frames=3)

def row(video_id, seed=0):
    rng = np.random.default_rng([seed, *video_id.encode()])
    return VideoRow(video_id, "ok", temporal=rng.random((3, 4)), spatial=rng.random((4, 4)),
                    pts=(0.0, 0.5, 1.0), thumbs=(b"jpeg",))

def plan_of(store, ids="abcde"):
    videos = [SourceVideo(i, "/data/" + i, 1, "d") for i in ids]
    return extend_plan(store, videos, 2, read_statuses(store))

def extract(store, format="zarr"):
    create_store(store, SPEC)
    plan = plan_of(store)
    for shard in pending_shards(store, plan):
        rows = [row(planned.video_id) for planned in plan.shards()[shard]]
        write_shard(store, SPEC, plan, shard, rows, format)
    compact_index(store)

def forked(work):
    """Run work in a child process; returns its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid
'''
POINTS = [
    *(f"{what}-{when}" for what in ("spec", "plan", "marker") for when in
      ("written", "synced", "linked", "done")),
    "marker-linked:2", "shard-half-written", "shard-written:3", "shard-synced", "shard-verified:2",
    "thumbs-written", "shard-ready", "index-written", "index-synced", "index-done",
]  # fmt: skip


def run(script: str, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WORLD + script, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env={**os.environ, **env}, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[..., None]]:
    """The script's functions, for use in this process."""
    names: dict[str, Callable[..., None]] = {}
    exec(compile(WORLD, "world", "exec"), names)
    return names


@pytest.fixture(scope="module")
def digest(world: dict[str, Callable[..., None]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an undisturbed run."""
    store = tmp_path_factory.mktemp("calm") / "store"
    world["extract"](store)
    return content_digest(store)


@pytest.fixture
def store(world: dict[str, Callable[..., None]], tmp_path: Path) -> Path:
    """A finished store."""
    world["extract"](tmp_path / "store")
    return tmp_path / "store"


def test_crash_at_every_commit_point_resumes_to_the_same_bytes(
    world: dict[str, Callable[..., None]], digest: str, tmp_path: Path
) -> None:
    script = """
for name in json.loads(sys.argv[2]):
    os.environ["REDVILLM_KILL_AT"] = name.partition("/")[0]
    store = Path(sys.argv[1], name)
    pid = forked(lambda: extract(store, "hdf5" if "hdf5" in name else "zarr"))
    print(name, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    names = [f"{point}/{form}" for point in POINTS for form in ("zarr", "hdf5")
             if form == "zarr" or point == "shard-half-written"]  # fmt: skip
    done = run(script, tmp_path, json.dumps(names))
    assert done.stdout.split("\n")[:-1] == [f"{name} -9" for name in names], done.stderr
    for name in names:
        store = tmp_path / name
        world["extract"](store)
        check = verify_store(store)
        assert (check.problems, check.content_digest) == ((), digest), name
        assert len(list((store / "commits").glob("0*.json"))) == 3
        assert FeatureStore(store).ids == tuple("abcde")


def test_crash_as_seen_from_outside(tmp_path: Path, digest: str) -> None:
    script = "extract(Path(sys.argv[1]))"
    killed = run(script, tmp_path / "s", REDVILLM_KILL_AT="marker-synced:3")
    assert killed.returncode == -signal.SIGKILL
    assert pending_shards(tmp_path / "s", load_plan(tmp_path / "s")) == [2]
    assert run(script, tmp_path / "s").returncode == 0
    assert content_digest(tmp_path / "s") == digest


def test_racing_writers_one_wins_the_others_are_told(tmp_path: Path) -> None:
    script = """
create_store(store := Path(sys.argv[1]), SPEC)
plan, (here, there) = plan_of(store, "ab"), os.pipe()
def write(seed):
    os.close(there)
    os.read(here, 1)  # returns when the parent lets go: all start at once
    commit = write_shard(store, SPEC, plan, 0, [row("a", seed), row("b", seed)],
                         "zarr" if seed % 2 else "hdf5")
    Path(sys.argv[1], str(seed)).write_text(json.dumps([commit.won, commit.attempt]))
pids = [forked(lambda seed=seed: write(seed)) for seed in range(6)]
os.close(there)
print([os.waitpid(pid, 0)[1] for pid in pids])
"""
    store = tmp_path / "s"
    done = run(script, store)
    assert done.stdout == "[0, 0, 0, 0, 0, 0]\n", done.stderr
    told = [json.loads((store / str(seed)).read_text()) for seed in range(6)]
    assert sorted(won for won, _ in told) == [False] * 5 + [True]
    assert len({attempt for _, attempt in told}) == 1  # all know whose commit stands
    assert len(list((store / "shards").iterdir())) == 1
    seeds = {won: seed for seed, (won, _) in enumerate(told)}
    names: dict[str, Callable[..., object]] = {}
    exec(compile(WORLD, "world", "exec"), names)
    for video_id in "ab":
        wanted = names["row"](video_id, seeds[True])
        found = FeatureStore(store)[video_id]
        assert (found.temporal == wanted.temporal.astype("float16")).all()  # type: ignore[attr-defined]
        assert (found.spatial == wanted.spatial.astype("float16")).all()  # type: ignore[attr-defined]


def test_racing_planners_agree(tmp_path: Path) -> None:
    script = """
create_store(store := Path(sys.argv[1]), SPEC)
here, there = os.pipe()
def plan(ids):
    os.close(there)
    os.read(here, 1)
    plan_of(store, ids)
pids = [forked(lambda ids=ids: plan(ids)) for ids in ("abc", "bcd", "abc", "xyz", "a", "dx")]
os.close(there)
print([os.waitpid(pid, 0)[1] for pid in pids])
"""
    done = run(script, tmp_path / "s")
    assert done.stdout == "[0, 0, 0, 0, 0, 0]\n", done.stderr
    plan = load_plan(tmp_path / "s")
    assert sorted(row.video_id for row in plan.rows) == list("abcdxyz")
    assert len({(row.shard, row.row) for row in plan.rows}) == 7


def rewrite(marker: Path, **changes: object) -> None:
    """A marker with other contents and a right checksum."""
    commit = Commit.decode(marker.read_bytes(), marker)
    marker.write_bytes(type(commit)(**{**vars(commit), **changes}).encode())


ROTTEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda m: m.write_bytes(b""),
    "truncated": lambda m: m.write_bytes(m.read_bytes()[:-20]),
    "bit": lambda m: m.write_bytes(m.read_bytes().replace(b'"ok"', b'"oj"', 1)),
    "binary": lambda m: m.write_bytes(bytes(range(256))),
    "list": lambda m: m.write_bytes(b"[]"),
    "other shard": lambda m: rewrite(m, shard=2),
    "other spec": lambda m: rewrite(m, fingerprint="00"),
    "other plan": lambda m: rewrite(m, part_hash="00"),
}


@pytest.mark.parametrize("kind", ROTTEN)
def test_rotten_marker_is_put_aside_and_its_shard_made_again(
    world: dict[str, Callable[..., None]],
    store: Path,
    digest: str,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    marker = store / "commits" / "000001.json"
    ROTTEN[kind](marker)
    rotten = marker.read_bytes()
    with caplog.at_level(logging.WARNING):
        assert FeatureStore(store).ids == ("a", "b", "e")
    assert "invalid commit marker" in caplog.text
    assert not marker.exists()
    assert [p.read_bytes() for p in (store / "commits/quarantine").iterdir()] == [rotten]
    assert pending_shards(store, load_plan(store)) == [1]
    world["extract"](store)
    assert verify_store(store).problems == ()
    assert content_digest(store) == digest


def test_rotten_marker_in_a_writers_way(world: dict[str, Callable[..., None]], store: Path) -> None:
    plan = load_plan(store)
    marker = store / "commits" / "000000.json"
    marker.write_bytes(b"{")
    rows = [world["row"](i) for i in "ab"]
    assert write_shard(store, SPEC, plan, 0, rows).won  # type: ignore[arg-type]
    assert not write_shard(store, SPEC, plan, 0, rows).won  # type: ignore[arg-type]


def test_valid_marker_put_there_meanwhile_survives_the_quarantine(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = store / "commits" / "000000.json"
    whole = marker.read_bytes()
    marker.write_bytes(b"{")
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        marker.write_bytes(whole)  # somebody made the shard again between our look and our move
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    pending_shards(store, load_plan(store))
    assert marker.read_bytes() == whole
    assert pending_shards(store, load_plan(store)) == []


def test_read_only_store_with_a_rotten_marker_still_reads(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (store / "commits" / "000001.json").write_bytes(b"{")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "read-only")

    monkeypatch.setattr(os, "rename", refuse)
    assert FeatureStore(store).ids == ("a", "b", "e")
    assert "could not move" in caplog.text


def test_marker_of_another_schema_is_refused_and_kept(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = store / "commits" / "000000.json"
    with monkeypatch.context() as patch:
        patch.setattr("features.commit.SCHEMA_VERSION", 2)
        rewrite(marker)
    assert json.loads(marker.read_bytes())["schema"] == 2
    with pytest.raises(StoreError, match=r"another schema version.*000000\.json.*got: 2"):
        read_statuses(store)
    assert marker.exists()


def test_commit_of_a_shard_planned_after_our_look_is_left_alone(store: Path) -> None:
    old = Plan(load_plan(store).rows[:2], {1: load_plan(store).part_hashes[1]})
    assert pending_shards(store, old) == []
    assert len(list((store / "commits").glob("0*.json"))) == 3


def test_files_and_folders_are_flushed_before_the_marker_is_linked(
    world: dict[str, Callable[..., None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def watched_fsync(handle: int) -> None:
        events.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def watched_link(source: Path, target: Path) -> None:
        events.append(f"link {target}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    store = tmp_path / "store"
    world["extract"](store)
    commit = Commit.decode((store / "commits/000000.json").read_bytes(), store)
    linked = events.index(f"link {store / 'commits/000000.json'}")
    flushed = set(events[:linked])
    for name in commit.files:
        assert str(store / name) in flushed
        assert str((store / name).parent) in flushed
    assert {str(store / "shards"), str(store / "thumbs")} <= flushed
    assert any(name.startswith(str(store / "commits/.000000.json.")) for name in flushed)
    assert str(store / "commits") in events[linked:]


def test_full_disk_is_an_error_that_leaves_nothing_behind(tmp_path: Path) -> None:
    script = """
import resource, signal
from features.errors import StoreError
create_store(store := Path(sys.argv[1]), SPEC)
plan = plan_of(store, "ab")
def write(format, limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_shard(store, SPEC, plan, 0, [row("a"), row("b")], format)
    except StoreError as error:
        print(format, limit, error, flush=True)
for format in ("zarr", "hdf5"):
    for limit in (40, 110, 800):
        assert os.waitpid(forked(lambda: write(format, limit)), 0)[1] == 0
print(pending_shards(store, plan), os.listdir(store / "shards") + os.listdir(store / "thumbs"))
"""
    done = run(script, tmp_path / "s")
    lines = done.stdout.splitlines()
    assert lines[-1] == "[0] []", done.stderr
    assert len(lines) == 7
    assert all("File too large" in line and str(tmp_path) in line for line in lines[:-1])
