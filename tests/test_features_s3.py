"""Stores on a real S3 server on loopback (tests/s3_server.py), which can be told to misbehave."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_features_commit as crash
import test_features_store as local
from s3_client import S3, SECRET
from upath import UPath

from features.commit import Commit, CommitRow
from features.errors import StoreError
from features.places import place, put_if, read_bytes, version_of
from features.plan import load_plan
from features.store import (
    FeatureStore,
    VideoRow,
    compact_index,
    content_digest,
    create_store,
    pending_shards,
    read_statuses,
    verify_store,
    write_shard,
)
from features.tables import read_table

SPEC = crash.SPEC


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(crash.WORLD, "world", "exec"), names)
    return names


@pytest.fixture(scope="module")
def digest(world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an undisturbed run into a folder."""
    store = tmp_path_factory.mktemp("calm") / "store"
    world["extract"](store)
    return content_digest(store)


@pytest.fixture
def store(s3: S3, world: dict[str, Any]) -> UPath:
    """A finished store of three shards."""
    found = s3.prefix()
    world["extract"](found, "hdf5")
    s3.log()
    return found


class OnS3:
    """The contract of all stores, laid out in a folder and uploaded by a plain client."""

    gone = "not exist"
    test_one_row_is_read_without_the_others = None  # these concern files on disk
    test_plain_library_reads_what_our_writer_wrote = None
    test_any_flipped_bit_is_noticed_or_harmless = None
    test_layout_is_one_checksummed_file_an_array = None
    test_layout_is_one_checksummed_chunk_a_video = None

    @pytest.fixture(autouse=True)
    def _server(self, s3: S3) -> None:
        self.s3 = s3

    def at(self, path: Path) -> UPath:
        return self.s3.upload(path)


class TestZarrOnS3(OnS3, local.TestZarr):
    pass


class TestHdf5OnS3(OnS3, local.TestHdf5):
    pass


def test_spawned_workers_read_right_values(s3: S3, tmp_path: Path) -> None:
    local.lay_out_store(tmp_path / "z", "zarr", ".zarr", local.lay_out_zarr)
    local.lay_out_store(tmp_path / "h", "hdf5", ".h5", local.lay_out_hdf5)
    local.check_loader([s3.upload(tmp_path / "z"), s3.upload(tmp_path / "h")], "spawn")


def test_places() -> None:
    assert place("data/features") == Path("data/features")
    assert place(Path("/a/b")) == Path("/a/b")
    for text in ("s3://bucket/a b/c/", Path("s3://bucket/a b/c"), place("s3://bucket/a b/c")):
        assert str(place(text)) == "s3://bucket/a b/c"
    for text in ("gs://bucket/x", "ftp://host/x", "http://host/x"):
        with pytest.raises(StoreError, match=r"no store can lie there.*s3://bucket"):
            place(text)
    for text in ("s3://", "s3://bucket/a*"):
        with pytest.raises(StoreError, match="not a bucket and a plain prefix"):
            place(text)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.places.find_spec", lambda _: None)
    with pytest.raises(StoreError, match=r"pip install -e '\.\[s3\]'"):
        place("s3://bucket/x")


def test_store_on_s3_is_the_store_in_a_folder(s3: S3, store: UPath, digest: str) -> None:
    check = verify_store(store)
    assert (check.problems, check.content_digest) == ((), digest)
    features = FeatureStore(str(store))
    assert features.ids == tuple("abcde")
    assert features.thumbs("a") == [b"jpeg"]
    keys = s3.keys(store)
    assert len([key for key in keys if key.startswith("commits/")]) == 3
    assert not [key for key in keys if key.startswith("probe")]


def test_failures_only_and_no_thumbs(s3: S3, world: dict[str, Any]) -> None:
    store = create_store(s3.prefix(), SPEC)
    plan = world["plan_of"](store, "ab")
    assert write_shard(store, SPEC, plan, 0, [VideoRow("a", "empty"), VideoRow("b", "empty")]).won
    assert read_statuses(store) == {"a": "empty", "b": "empty"}


def test_of_many_concurrent_puts_one_wins(s3: S3) -> None:
    path = s3.prefix()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: put_if(path, b"%d" % i, IfNoneMatch="*"), range(8)))
    assert sorted(won) == [False] * 7 + [True]
    assert read_bytes(path) == b"%d" % won.index(True)


def test_a_put_whose_reply_was_lost_is_recognised(s3: S3) -> None:
    path = s3.prefix()
    for data, condition in ((b"1", {"IfNoneMatch": "*"}), (b"2", {"IfMatch": ""})):
        if "IfMatch" in condition:
            condition["IfMatch"] = version_of(path)
        s3.fault("lose", "PUT", path.path)
        assert put_if(path, data, **condition)
        assert not put_if(path, b"3", **condition)
        assert read_bytes(path) == data


RACE = """
from features.places import place
store = create_store(place(sys.argv[1]), SPEC)  # connections are open before the forks
plan, (here, there) = plan_of(store, "ab"), os.pipe()
def write(seed):
    os.close(there)
    os.read(here, 1)  # returns when the parent lets go: all start at once
    commit = write_shard(store, SPEC, plan, 0, [row("a", seed), row("b", seed)],
                         "zarr" if seed % 2 else "hdf5")
    Path(sys.argv[2], str(seed)).write_text(json.dumps([commit.won, commit.attempt]))
pids = [forked(lambda seed=seed: write(seed)) for seed in range(4)]
os.close(there)
print([os.waitpid(pid, 0)[1] for pid in pids])
"""


@pytest.mark.parametrize("rotten", [False, True])
def test_racing_writers_one_wins_the_others_are_told(
    s3: S3, world: dict[str, Any], tmp_path: Path, rotten: bool
) -> None:
    store = s3.prefix()
    if rotten:
        s3.write(store / "commits" / "000000.json", b"{")
    done = crash.run(RACE, store, tmp_path)
    assert done.stdout == "[0, 0, 0, 0]\n", done.stderr
    told = [json.loads((tmp_path / str(seed)).read_text()) for seed in range(4)]
    assert sorted(won for won, _ in told) == [False] * 3 + [True]
    assert len({attempt for _, attempt in told}) == 1  # all know whose commit stands
    attempts = {key.split("-")[1][:16] for key in s3.keys(store) if key.startswith("shards/")}
    assert attempts == {told[0][1]}  # the others took theirs away
    seed = [won for won, _ in told].index(True)
    wanted = world["row"]("b", seed).temporal.astype("float16")
    np.testing.assert_array_equal(FeatureStore(store)["b"].temporal, wanted)
    assert verify_store(store).problems == ()


def test_late_duplicate_changes_nothing(
    s3: S3, store: UPath, world: dict[str, Any], digest: str
) -> None:
    before = s3.keys(store)
    late = write_shard(store, SPEC, load_plan(store), 0, [world["row"](i, 9) for i in "ab"])
    assert not late.won
    assert s3.keys(store) == before
    assert verify_store(store).content_digest == digest


@pytest.mark.parametrize("kind", ["lose", "conflict"])
@pytest.mark.parametrize("what", ["spec", "plan", "commits/000001"])
def test_a_lost_reply_and_a_conflict_are_no_loss(
    s3: S3, world: dict[str, Any], digest: str, kind: str, what: str
) -> None:
    store = s3.prefix()
    s3.fault(kind, "PUT", f"{store.path}/{what}")
    world["extract"](store, "hdf5")
    assert sum(f"PUT /{store.path}/{what}" in line for line in s3.log()) == 2
    assert verify_store(store).problems == ()
    assert content_digest(store) == digest
    assert len({key.split("-")[0] for key in s3.keys(store) if key.startswith("shards/")}) == 3


def test_writer_killed_in_mid_upload_leaves_nothing_that_counts(
    s3: S3, world: dict[str, Any], digest: str
) -> None:
    store = s3.prefix()
    s3.fault("stall", "PUT", r"shards/000001-\w+\.zarr/spatial/c/")
    script = "from features.places import place; extract(place(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", crash.WORLD + script, str(store)]) as writer:
        while not any(key.startswith("shards/000001") for key in s3.keys(store)):
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)  # half a shard is there, and the rest never comes
    assert pending_shards(store, load_plan(store)) == [1, 2]
    assert not any("spatial" in key for key in s3.keys(store) if "/000001" in key and "/c/" in key)
    world["extract"](store)
    assert verify_store(store).problems == ()
    assert content_digest(store) == digest


@pytest.mark.parametrize("point", ["marker-done:2", "shard-uploaded:3"])
def test_crash_around_the_marker(s3: S3, world: dict[str, Any], digest: str, point: str) -> None:
    store = s3.prefix()
    script = "from features.places import place; extract(place(sys.argv[1]))"
    assert crash.run(script, store, REDVILLM_KILL_AT=point).returncode == -signal.SIGKILL
    world["extract"](store)
    assert verify_store(store).content_digest == digest


def test_invalid_marker_means_undone_until_a_writer_replaces_it(
    s3: S3, store: UPath, world: dict[str, Any], digest: str, caplog: pytest.LogCaptureFixture
) -> None:
    marker = store / "commits" / "000001.json"
    s3.write(marker, b"")
    assert FeatureStore(store).ids == ("a", "b", "e")
    assert "invalid commit marker" in caplog.text
    assert pending_shards(store, load_plan(store)) == [1]
    assert read_bytes(marker) == b""  # a reader changes nothing
    world["extract"](store)
    assert verify_store(store).content_digest == digest
    (aside,) = [key for key in s3.keys(store) if key.startswith("commits/quarantine/")]
    assert read_bytes(store / aside) == b""


def test_valid_marker_put_there_meanwhile_survives(
    s3: S3, store: UPath, monkeypatch: pytest.MonkeyPatch, world: dict[str, Any]
) -> None:
    """Between the look at an invalid marker and its replacement somebody else replaced it."""
    marker = store / "commits" / "000000.json"
    whole = read_bytes(marker)
    s3.write(marker, b"{")

    def late(path: UPath, data: bytes) -> None:
        s3.write(marker, whole)

    monkeypatch.setattr("features.commit.put", late)  # where the invalid one is kept aside
    rows = [world["row"](i, 9) for i in "ab"]
    commit = write_shard(store, SPEC, load_plan(store), 0, rows)
    assert not commit.won
    assert commit.attempt == Commit.decode(whole, marker).attempt
    assert read_bytes(marker) == whole


def test_upload_is_read_back_before_the_commit(s3: S3, world: dict[str, Any]) -> None:
    store = create_store(s3.prefix(), SPEC)
    plan = world["plan_of"](store, "ab")
    s3.fault("garble", "PUT", "spatial/c/")
    with pytest.raises(StoreError, match=r"cannot write the shard.*reads back otherwise"):
        write_shard(store, SPEC, plan, 0, [world["row"](i) for i in "ab"])
    assert pending_shards(store, plan) == [0]
    assert isinstance(store, UPath)
    assert not [key for key in s3.keys(store) if key.startswith("shards/")]


def test_server_without_conditions_is_refused(s3: S3) -> None:
    store = s3.prefix()
    s3.fault("blind", "PUT", store.path)
    with pytest.raises(StoreError, match=r"knows no conditional writes.*IfNoneMatch"):
        create_store(store, SPEC)
    assert s3.keys(store) == []


def test_no_store_no_bucket(s3: S3) -> None:
    with pytest.raises(StoreError, match=r"no feature store there.*make extract"):
        FeatureStore(s3.prefix())
    with pytest.raises(StoreError, match=r"cannot create.*nowhere.*bucket does not exist"):
        create_store(place("s3://nowhere/x"), SPEC)


def test_other_spec_and_stale_index(s3: S3, store: UPath, world: dict[str, Any]) -> None:
    assert len(FeatureStore(store)) == 5
    assert sum("commits/0" in line for line in s3.log()) == 0  # a fresh index needs no marker
    plan = world["plan_of"](store, "abcdef")
    write_shard(store, SPEC, plan, 3, [world["row"]("f")], "hdf5")
    assert FeatureStore(store).ids == tuple("abcdef")
    compact_index(store)
    rows, _ = read_table(store / "index.parquet", ["video_id"])
    assert len(rows) == 6


def requests(s3: S3) -> Counter[str]:
    return Counter(line.split()[0] for line in s3.log())


@pytest.mark.parametrize(("form", "files"), [("hdf5", 1), ("zarr", 7)])
def test_requests_of_a_shard(s3: S3, world: dict[str, Any], form: str, files: int) -> None:
    store = create_store(s3.prefix(), SPEC)
    plan = world["plan_of"](store, "ab")
    s3.log()
    write_shard(store, SPEC, plan, 0, [world["row"](i) for i in "ab"], form)
    # The files, the thumbnails and the marker; all but the marker come back; the store's spec.
    assert requests(s3) == {"PUT": files + 2, "GET": files + 2, "LIST": 1}


def test_resume_reads_each_marker_once_and_many_at_a_time(s3: S3, world: dict[str, Any]) -> None:
    store = create_store(s3.prefix(), SPEC)
    ids = [f"v{number:02}" for number in range(80)]
    plan = world["plan_of"](store, ids)
    assert isinstance(store, UPath)
    for shard, rows in plan.shards().items():  # as another client would have put them there
        commit = Commit(
            shard, "a" * 16, plan.shard_hash(shard), SPEC.fingerprint, "zarr", {},
            tuple(CommitRow(row.video_id, "empty") for row in rows),
        )  # fmt: skip
        s3.write(store / "commits" / f"{shard:06d}.json", commit.encode())
    s3.log()
    assert pending_shards(store, plan) == []
    assert requests(s3) == {"LIST": 1, "GET": 41}


def test_unreachable_server_and_no_keys_are_one_clear_line(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    read = "FeatureStore('s3://bucket/x')"
    find = """
from pipelines.selection import Selection
from pipelines.stages import find_store
find_store(Selection(features="s3://bucket/x"))
"""
    for script in (read, find):
        line = crash.run(script).stderr.splitlines()[-1]
        assert re.match(r"features.errors.StoreError: .*s3://bucket/x.*got: Could not conn", line)
        assert SECRET not in line
        assert "AKIA" not in line
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "Unable to locate credentials" in crash.run(read).stderr.splitlines()[-1]


def test_videos_to_projectors_through_s3(s3: S3, clip: Callable[..., Path], tmp_path: Path) -> None:
    """`make extract` and `make train` with FEATURES=s3://…: what a folder gives, S3 gives."""
    lines = []
    for index in range(4):
        clip(tmp_path / "videos" / f"v{index}.mp4", seed=index, num_frames=12)
        lines.append(json.dumps({"video": f"v{index}", "question": "what", "answer": "a bar"}))
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    script = """
import sys
from pipelines.__main__ import main
work, features = sys.argv[1:]
own = ["--videos", f"{work}/videos", "--annotations", f"{work}/questions.jsonl"]
for root in (features, f"{work}/features"):
    where = [*own, "--features", root, "--runs", f"{work}/{root.count(':')}"]
    for _ in range(2):
        assert main(["extract", *where, "--executor", "serial", "--videos_per_shard", "2"]) == 0
    assert main(["train", *where, "--epochs", "1", "--batch_size", "2", "--num_workers", "2"]) == 0
"""
    root = s3.prefix()
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(root)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (name,) = {path.name for path in (tmp_path / "features" / "videos").iterdir()}
    there = verify_store(root / "videos" / name)
    assert there.problems == ()
    assert there == verify_store(tmp_path / "features" / "videos" / name)
    (here, remote) = (
        json.loads(
            (tmp_path / run / "videos" / "red-villm" / "seed-0" / "metrics.json").read_text()
        )
        for run in "01"
    )
    assert here["loss"] == remote["loss"]
