"""Stores converted, merged, exchanged and tidied, held against undivided runs and plain readers."""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3_client import S3
from upath import UPath

from features.convert import convert
from features.describe import load_base
from features.errors import FingerprintError, StoreError
from features.exchange import export_pickles, import_pickles
from features.garbage import find_garbage, remove_garbage, superseded_commits
from features.merge import merge
from features.pickles import find_pickles, load_array
from features.plan import Plan, SourceVideo, extend_plan, load_plan
from features.spec import FeatureSpec
from features.store import (
    FeatureStore,
    VideoRow,
    content_digest,
    create_store,
    pending_shards,
    read_spec,
    read_statuses,
    verify_store,
    write_shard,
)
from features.store_info import store_info
from features.tower_files import tower_digest
from pipelines.__main__ import main
from train.sources import check_store

SPEC = FeatureSpec("checkpoint", "ab" * 32, 28, "crop-bicubic", num_frames=4)
N, D = 9, 8
PROJECT = Path(__file__).resolve().parent.parent


def made(video_id: str, failed: bool = False, width: int = D, salt: str = "") -> VideoRow:
    """The same features for the same id, whoever extracts them."""
    if failed:
        return VideoRow(video_id, "timeout", "too slow", decoder="pyav")
    seed = hashlib.sha256((video_id + salt).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:4]))
    frames = 1 + seed[0] % SPEC.num_frames
    return VideoRow(
        video_id,
        "ok",
        temporal=rng.standard_normal((frames, width), dtype=np.float32),
        spatial=rng.standard_normal((N, width), dtype=np.float32),
        pts=tuple(i / 8 for i in range(frames)),
        decoder="decord",
        decoder_version="0.6.0",
        thumbs=(b"jpeg " + seed, b"second"),
    )


def plan_ids(store: Path, ids: str, per_shard: int = 2, retry: bool = False) -> Plan:
    found = [SourceVideo(i, f"/data/{i}", 1, "d") for i in ids]
    return extend_plan(store, found, per_shard, read_statuses(store), retry)


def extract(
    store: Path,
    ids: str,
    failed: str = "",
    part: tuple[int, int] = (0, 1),
    form: str = "zarr",
    retry: bool = False,
    **given: Any,
) -> Path:
    """As extraction does it: one plan for all ids, every n-th pending shard."""
    create_store(store, SPEC)
    plan = plan_ids(store, ids, retry=retry)
    for shard in pending_shards(store, plan):
        if shard % part[1] == part[0]:
            rows = [made(r.video_id, r.video_id in failed, **given) for r in plan.shards()[shard]]
            write_shard(store, SPEC, plan, shard, rows, form)
    return store


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file but the index, which is written anew each time."""
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file() and p.name != "index.parquet"
    }


def killed(code: str, at: str) -> None:
    """Run code in a process that dies (SIGKILL) at a commit point."""
    environment = {**os.environ, "REDVILLM_KILL_AT": at}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=PROJECT, check=False)
    assert done.returncode == -9


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Seven videos in Zarr: one fails for good, one is mended in the second part."""
    extract(tmp_path / "store", "abcdefg", failed="cf")
    return extract(tmp_path / "store", "abcdefg", failed="c", retry=True)


@pytest.mark.parametrize("form", ["zarr", "hdf5"])
def test_converted_stores_hold_the_same(store: Path, tmp_path: Path, form: str) -> None:
    source = store
    if form == "zarr":
        source = tmp_path / "between"
        convert(store, source, "hdf5")
    target = tmp_path / "target"
    filled = convert(source, target, form)
    assert (filled.shards, filled.left) == (5, 0)
    assert set(store_info(target).shards) == {form, "waiting"}
    check = verify_store(target)
    assert check.problems == ()
    assert check.content_digest == verify_store(store).content_digest
    assert load_plan(target) == load_plan(store)
    before, after = FeatureStore(store), FeatureStore(target)
    assert before.ids == after.ids == tuple("abdefg")
    assert before.failures == after.failures
    for video_id in before.ids:
        assert after.thumbs(video_id) == before.thumbs(video_id) == list(made(video_id).thumbs)
        np.testing.assert_array_equal(after[video_id].temporal, before[video_id].temporal)
    files = snapshot(target)
    assert convert(source, target, form).shards == 0
    assert snapshot(target) == files


def test_a_killed_conversion_goes_on(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    code = "from pathlib import Path; from features.convert import convert; "
    killed(
        code + f"convert(Path({str(store)!r}), Path({str(target)!r}), 'hdf5')", "marker-linked:3"
    )
    assert convert(store, target, "hdf5").shards == 2
    assert verify_store(target).problems == ()


def test_what_the_source_has_not_done_stays_pending(tmp_path: Path) -> None:
    source, target = extract(tmp_path / "s", "abcdef", part=(0, 2)), tmp_path / "t"
    assert convert(source, target, "hdf5").left == 1
    extract(source, "abcdef")
    extract(source, "abcdefgh")
    filled = convert(source, target, "hdf5")
    assert (filled.shards, filled.left) == (2, 0)
    assert content_digest(target) == content_digest(source)


def test_conversion_refuses_other_stores_and_damage(store: Path, tmp_path: Path) -> None:
    other = create_store(tmp_path / "other", replace(SPEC, num_frames=8))
    with pytest.raises(FingerprintError, match=r"another spec.*other.*num_frames"):
        convert(store, other, "hdf5")
    with pytest.raises(StoreError, match=r"another plan.*store merge"):
        convert(store, extract(tmp_path / "planned", "abx"), "hdf5")
    (file,) = (store / "shards").glob("000002-*.zarr/temporal/c/0/0/0")
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged or missing.*shard 000002.*store verify"):
        convert(store, tmp_path / "target", "hdf5")
    assert pending_shards(tmp_path / "target", load_plan(tmp_path / "target")) == [2, 3, 4]


@pytest.mark.parametrize("split", ["shards", "videos"])
@pytest.mark.parametrize("form", ["zarr", "hdf5"])
def test_halves_merge_into_the_undivided_run(tmp_path: Path, split: str, form: str) -> None:
    whole = extract(tmp_path / "whole", "abcdefghi", failed="d")
    if split == "shards":  # a SLURM array on two disks: one plan, every second shard
        halves = [
            extract(tmp_path / f"half{i}", "abcdefghi", failed="d", part=(i, 2), form=form)
            for i in (0, 1)
        ]
    else:
        halves = [
            extract(tmp_path / "half0", "abdgi", failed="d"),
            extract(tmp_path / "half1", "bcefh", form=form),
        ]
    target = tmp_path / "merged"
    filled = merge(target, halves, form)
    assert (filled.videos, filled.left) == (9, 0)
    assert content_digest(target) == content_digest(whole)
    assert verify_store(target).problems == ()
    assert FeatureStore(target).thumbs("h") == list(made("h").thumbs)
    planned = {k: (v.path, v.size, v.digest) for k, v in load_plan(target).latest().items()}
    assert planned == {k: (v.path, v.size, v.digest) for k, v in load_plan(whole).latest().items()}
    files = snapshot(target)
    assert merge(target, halves, form).shards == 0
    assert snapshot(target) == files


def test_a_killed_merge_goes_on(tmp_path: Path) -> None:
    halves = [extract(tmp_path / "a", "abcd"), extract(tmp_path / "b", "efgh")]
    whole, target = extract(tmp_path / "whole", "abcdefgh"), tmp_path / "t"
    code = "from pathlib import Path; from features.merge import merge; "
    call = f"merge(Path({str(target)!r}), [Path({str(halves[0])!r}), Path({str(halves[1])!r})])"
    killed(code + call, "shard-verified:3")
    assert merge(target, halves).shards == 2
    assert len(load_plan(target).part_hashes) == 1
    assert content_digest(target) == content_digest(whole)


def test_merge_fills_and_mends_what_the_target_began(tmp_path: Path) -> None:
    whole = extract(tmp_path / "whole", "abcdefghij")
    target = extract(tmp_path / "t", "abcdefgh", failed="a", part=(0, 2))
    source = extract(tmp_path / "s", "abcdefghij")
    filled = merge(target, [source])
    assert (filled.videos, filled.left) == (7, 0), "c d g h waited, a failed, i j were unknown"
    assert content_digest(target) == content_digest(whole)
    assert merge(target, [extract(tmp_path / "bad", "abk", failed="abk")]).videos == 1
    assert FeatureStore(target).ids == tuple("abcdefghij")
    assert FeatureStore(target).failures == {"k": ("timeout", "too slow")}


def test_merge_leaves_a_shard_that_it_cannot_fill(tmp_path: Path) -> None:
    target = create_store(tmp_path / "t", SPEC)
    plan_ids(target, "abcd")
    filled = merge(target, [extract(tmp_path / "s", "abc")])
    assert (filled.videos, filled.left) == (2, 1)
    assert read_statuses(target) == {"a": "ok", "b": "ok"}
    fresh = tmp_path / "fresh"
    merge(fresh, [target, tmp_path / "s"])
    assert FeatureStore(fresh).ids == ("a", "b", "c")


def test_merge_refuses_what_does_not_fit(tmp_path: Path) -> None:
    a, b = extract(tmp_path / "a", "abc"), extract(tmp_path / "b", "cde", salt="other")
    with pytest.raises(StoreError, match=r"different features.*video c.*/a: .*/b: "):
        merge(tmp_path / "t", [a, b])
    assert not load_plan(tmp_path / "t").rows
    with pytest.raises(StoreError, match=r"different features.*video c.*/b: .*/a: "):
        merge(b, [a])
    other = create_store(tmp_path / "other", replace(SPEC, num_frames=8))
    with pytest.raises(FingerprintError, match=r"fingerprint differs.*/other.*/a"):
        merge(tmp_path / "t", [a, other])
    with pytest.raises(FingerprintError, match=r"another spec.*/other"):
        merge(other, [a])
    with pytest.raises(StoreError, match=r"no feature store.*nowhere"):
        merge(tmp_path / "t", [a, tmp_path / "nowhere"])


def test_memory_of_a_merge_does_not_grow_with_the_stores(tmp_path: Path) -> None:
    ids, width = "abcdefghijklmnopqrstuvwxyz", 8192
    halves = [
        extract(tmp_path / name, ids, part=(part, 2), width=width, form="hdf5")
        for part, name in enumerate("ab")
    ]
    one = 2 * (SPEC.num_frames + N) * width * 2  # bytes of a shard
    tracemalloc.start()
    merge(tmp_path / "t", halves, "hdf5")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pending_shards(tmp_path / "t", load_plan(tmp_path / "t"))) == 0
    assert one * 2 < peak < one * 8, "of 13 shards"


def age(path: Path, hours: float) -> None:
    for found in (path, *path.rglob("*")):
        os.utime(found, (time.time() - hours * 3600,) * 2)


def test_garbage_is_what_no_marker_vouches_for(store: Path, tmp_path: Path) -> None:
    everything = snapshot(store)
    assert find_garbage(store) == []
    (shard,) = (store / "shards").glob("000001-*")
    old = shutil.copytree(shard, store / "shards" / "000001-00000000deadbeef.zarr")
    young = shutil.copytree(shard, store / "shards" / "000002-00000000deadbeef.zarr")
    thumbs = store / "thumbs" / "000001-00000000deadbeef.zip"
    thumbs.write_bytes(b"x" * 11)
    temporary = store / "commits" / f".000009.json.{'0' * 32}.tmp"
    temporary.write_bytes(b"half")
    for path in (store / "shards" / "notes.txt", store / "commits" / ".nfs0001"):
        path.write_text("not ours")
        age(path, 999)
    for path in (old, thumbs, temporary):
        age(path, 30)
    age(young, 30)
    (young / "zarr.json").touch()  # a file of it is being written
    found = {g.path: g for g in find_garbage(store)}
    assert set(found) == {old, young, thumbs, temporary}
    assert found[thumbs].num_bytes == 11
    wanted = sum(p.stat().st_size for p in old.rglob("*") if p.is_file())
    assert found[old].num_bytes == wanted
    assert found[temporary].why == "temporary"
    assert 29 < found[old].hours < 31
    assert found[young].hours < 1
    remove_garbage(g for g in found.values() if g.hours > 24)
    assert [g.path for g in find_garbage(store)] == [young]
    remove_garbage(find_garbage(store))
    left = set(snapshot(store))
    assert left - {"shards/notes.txt", "commits/.nfs0001"} == set(everything)
    assert verify_store(store).problems == ()


def test_features_whose_marker_may_come_back_are_no_garbage(store: Path, tmp_path: Path) -> None:
    marker = store / "commits" / "000001.json"
    marker.write_bytes(marker.read_bytes()[:-9])
    age(store, 99)
    assert find_garbage(store) == [], "the damaged marker is all that is known of shard 1"
    last = store / "plan" / "0002.parquet"
    last.rename(tmp_path / "kept")
    assert find_garbage(store) == [], "a part of the plan is not there"
    (tmp_path / "kept").rename(last)
    extract(store, "abcdefg", failed="c")
    age(store, 99)
    assert [g.why for g in find_garbage(store)].count("quarantined marker") == 1
    assert [g.why for g in find_garbage(store)].count("uncommitted attempt") == 2
    remove_garbage(find_garbage(store))
    assert verify_store(store).problems == ()


def test_superseded_shards_are_named_and_kept(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s", SPEC)
    first = plan_ids(store, "a", per_shard=1)
    again = [SourceVideo("a", "/data/a", 2, "changed while it waited")]
    plan = extend_plan(store, again, 1, read_statuses(store))
    write_shard(store, SPEC, plan, 1, [made("a")])
    assert superseded_commits(store) == []
    write_shard(store, SPEC, first, 0, [made("a", salt="old")])
    assert [c.shard for c in superseded_commits(store)] == [0]
    assert find_garbage(store) == []
    assert store_info(store).superseded_shards == 1


def test_info_counts_what_is_there(store: Path) -> None:
    plan_ids(store, "abcdefgxyz")
    info = store_info(store)
    assert (info.ok, info.failed, info.waiting) == (6, {"timeout": 1}, 3)
    assert (info.patches, info.width, info.parts) == (N, D, 3)
    assert info.shards == {"zarr": 5, "waiting": 2}
    assert info.decoders == {"decord 0.6.0": 6}
    assert info.content_digest == content_digest(store)
    sizes = [p.stat().st_size for p in store.rglob("*") if p.is_file()]
    assert (info.num_bytes, info.garbage_bytes) == (sum(sizes), 0)
    empty = store_info(create_store(store.parent / "empty", SPEC))
    assert (empty.ok, empty.waiting, empty.patches) == (0, 0, None)


def test_all_of_it_works_on_s3(
    s3: S3,
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digest, there, merged = content_digest(store), s3.prefix(), s3.prefix()
    assert convert(store, there, "zarr").shards == 5
    assert convert(store, there, "zarr").shards == 0
    assert content_digest(there) == digest
    assert merge(merged, [there, store], "hdf5").videos == 7
    assert merge(tmp_path / "back", [merged]).videos == 7
    assert verify_store(tmp_path / "back").content_digest == digest
    assert FeatureStore(tmp_path / "back").thumbs("a") == list(made("a").thumbs)
    keys = s3.keys(there)
    for name in (
        f"shards/000001-{'ab' * 8}.zarr/temporal/c/0/0/0",
        f"shards/000001-{'ab' * 8}.zarr/zarr.json",
        f"thumbs/000001-{'ab' * 8}.zip",
        f"probe-{'ab' * 16}",
    ):
        s3.write(UPath(f"{there}/{name}"), b"12345")
    assert main(["store", "verify", str(there)]) == 0
    assert "sound; 6 videos, 1 failures" in capsys.readouterr().out
    assert main(["store", "info", str(there), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["garbage_bytes"] == 20
    assert main(["store", "gc", str(there), "--delete"]) == 0
    assert "3 younger ones left alone" in capsys.readouterr().out
    assert main(["store", "gc", str(there), "--delete", "--older_than_hours", "0"]) == 0
    assert "3 leftovers, 20 bytes, removed" in capsys.readouterr().out
    assert s3.keys(there) == keys
    assert verify_store(there).problems == ()
    assert main(["store", "export", str(merged), str(tmp_path / "pickles")]) == 0
    command = ["import", str(s3.prefix()), str(tmp_path / "pickles"), "--base", "mini"]
    assert main(["store", *command, "--num_frames", "4"]) == 0
    assert "6 videos with features in zarr 1" in capsys.readouterr().out


T = 5


def published(frames: int, rows: int = T + N, width: int = D, seed: int = 0) -> np.ndarray:
    array = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float16)
    array[frames:T] = 0
    return array


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_protocol_are_read(protocol: int, order: Any) -> None:
    array = np.asarray(published(3), order=order)
    for dtype in ("<f2", ">f2"):
        found = load_array(pickle.dumps(array.astype(dtype, order=order), protocol))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == np.float16


def test_numpy_1_and_python_2_spellings_are_read() -> None:
    array = published(3)
    new = pickle.dumps(array, 2)
    old = new.replace(b"numpy._core", b"numpy.core")
    assert old != new
    np.testing.assert_array_equal(load_array(old), array)
    # Python 2 wrote the bytes of an array as a string (opcode T).
    raw = array.tobytes()
    text = b"T" + len(raw).to_bytes(4, "little") + raw
    python2 = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x0eK\x08\x86cnumpy\ndtype\nU\x02f2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89" + text + b"tb."
    )
    np.testing.assert_array_equal(load_array(python2), array)
    np.testing.assert_array_equal(pickle.loads(python2, encoding="latin1"), array)


class Evil:
    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def attacks(mark: Path) -> dict[str, tuple[Any, str]]:
    touch = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    system, evil = Evil(os.system, f"touch {mark}"), Evil(builtins.eval, touch)
    holder = np.empty(2, object)
    holder[:] = [1.0, evil]
    return {
        "os.system": (system, "posix.system"),
        "eval": (evil, "eval"),
        "nested": ([published(3), {"deep": (system,)}], "posix.system"),
        "dict key": ({"features": published(3), Evil(os.open, str(mark), 65): 1}, "posix.open"),
        "object array": (holder, "eval"),
        "numpy's own": (Evil(np.save, str(mark), 1), "numpy.save"),
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, name: str, protocol: int) -> None:
    mark = tmp_path / "touched.npy"
    attack, called = attacks(mark)[name]
    data = pickle.dumps(attack, protocol)
    with pytest.raises(StoreError, match=rf"more than an array.*{called}"):
        load_array(data)
    assert not mark.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pickle.loads(data)
    assert mark.exists(), "the attack is a real one"


def test_what_is_no_array_is_not_taken_for_one() -> None:
    array = published(3)
    for other in ([array], {"a": array}, array.tolist(), "text", None, array[0, 0], array > 0):
        with pytest.raises((StoreError, ValueError), match=r"more than an array|no pickled|dtype"):
            load_array(pickle.dumps(other))
    for dtype in (np.float32, np.int16, "f2,f2", "V2", "U1"):
        with pytest.raises(ValueError, match="dtype"):
            load_array(pickle.dumps(np.zeros((9, 2), dtype)))
    whole = pickle.dumps(array)
    for length in range(len(whole)):
        with pytest.raises((ValueError, StoreError)):
            load_array(whole[:length])
    # Attributes set on the stand-ins themselves (BUILD on a global) would outlive the file.
    for module, name in ((b"numpy", b"ndarray"), (b"numpy", b"dtype"), (b"_codecs", b"encode")):
        with pytest.raises(ValueError, match="no pickled array"):
            load_array(b"c" + module + b"\n" + name + b"\n(N}S'state'\nI1\nstb.")
    np.testing.assert_array_equal(load_array(whole), array)
    for greedy in (b"]r\xff\xff\xff\x7f.", b"]p2147483647\n.", b"\x96" + bytes(4) + b"\x08\0\0\0."):
        with pytest.raises(ValueError, match="no pickled array"):
            load_array(greedy)  # 34 GB of memory for a few bytes
    rng = np.random.default_rng(0)
    for _ in range(2000):  # anything but a crash or another kind of error
        damaged = bytearray(pickle.dumps(array, int(rng.integers(6))))
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        with contextlib.suppress(StoreError, ValueError):
            assert load_array(bytes(damaged)).dtype == np.float16


@pytest.fixture
def pickles(tmp_path: Path) -> Path:
    folder = tmp_path / "pickles"
    folder.mkdir()
    for seed, name in enumerate(("v_one", "v_two", "a%2Fb", "100%")):
        array = published(seed + 1, seed=seed)
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(array, seed))
    return folder


def test_published_pickles_become_a_store(pickles: Path, tmp_path: Path) -> None:
    base, target = load_base("mini"), tmp_path / "store"
    assert import_pickles(target, pickles, base, T, videos_per_shard=3).videos == 4
    features = FeatureStore(target)
    assert features.ids == ("100%", "a/b", "v_one", "v_two")
    for seed, video_id in enumerate(("v_one", "v_two", "a/b", "100%")):
        found = features[video_id]
        np.testing.assert_array_equal(found.temporal, published(seed + 1, seed=seed)[: seed + 1])
        np.testing.assert_array_equal(found.spatial, published(1, seed=seed)[T:])
    spec = read_spec(target)
    assert (spec.tower, spec.decoder_policy) == ("imported:video-chatgpt", "imported")
    assert (spec.preprocessing, spec.num_frames) == ("squash-nearest", T)
    assert spec.weights_digest == tower_digest(base)
    assert store_info(target).decoders == {"imported": 4}
    assert import_pickles(target, pickles, base, T).shards == 0
    with pytest.raises(FingerprintError, match="num_frames"):
        import_pickles(target, pickles, base, T + 1)


def test_bad_pickles_are_rows_and_evil_ones_stop_the_import(pickles: Path, tmp_path: Path) -> None:
    base, target, mark = load_base("mini"), tmp_path / "store", tmp_path / "touched"
    good = pickle.dumps(published(2, seed=9))
    (pickles / "cut.pkl").write_bytes(good[:90])
    (pickles / "flat.pkl").write_bytes(pickle.dumps(np.ones(7, np.float16)))
    (pickles / "zero.pkl").write_bytes(pickle.dumps(published(0)))
    (pickles / "nan.pkl").write_bytes(pickle.dumps(np.full((T + N, D), np.nan, np.float16)))
    (pickles / "z_evil.pkl").write_bytes(pickle.dumps(Evil(os.system, f"touch {mark}")))
    with pytest.raises(StoreError, match=r"refused.*z_evil\.pkl.*posix\.system"):
        import_pickles(target, pickles, base, T, videos_per_shard=2)
    assert not mark.exists()
    assert pending_shards(target, load_plan(target)) == [3, 4], "what came before is kept"
    (pickles / "z_evil.pkl").unlink()
    (pickles / "cut.pkl").write_bytes(good)
    import_pickles(target, pickles, base, T)
    codes = {video_id: code for video_id, (code, _) in FeatureStore(target).failures.items()}
    wanted = {"flat": "damaged", "zero": "damaged", "nan": "non-finite", "z_evil": "missing"}
    assert codes == wanted
    np.testing.assert_array_equal(FeatureStore(target)["cut"].spatial, published(2, seed=9)[T:])
    with pytest.raises(StoreError, match="no pickles there"):
        import_pickles(target, tmp_path / "nowhere", base, T)


def test_export_and_import_give_back_every_bit(pickles: Path, tmp_path: Path) -> None:
    base, target, folder = load_base("mini"), tmp_path / "store", tmp_path / "out"
    big = published(3, rows=356, width=1024)
    big[3:100] = 0
    import_pickles(target, pickles, base, T)
    assert export_pickles(target, folder) == 4
    assert {p.name for p in folder.iterdir()} == {
        "v_one.pkl",
        "v_two.pkl",
        "a%2Fb.pkl",
        "100%25.pkl",
    }
    for video_id, path in find_pickles(pickles).items():
        theirs = pickle.loads(path.read_bytes())
        ours = pickle.loads(find_pickles(folder)[video_id].read_bytes())
        assert (ours.dtype, ours.shape, ours.tobytes()) == (
            theirs.dtype,
            theirs.shape,
            theirs.tobytes(),
        )
    import_pickles(tmp_path / "again", folder, base, T)
    assert content_digest(tmp_path / "again") == content_digest(target)

    files = snapshot(folder)
    (folder / "v_one.pkl").unlink()
    assert export_pickles(target, folder) == 1
    del files["v_one.pkl"]
    assert files.items() <= snapshot(folder).items(), "equal files are left alone"
    (folder / "v_two.pkl").write_bytes(pickle.dumps(published(1, seed=5)))
    with pytest.raises(StoreError, match=r"another file.*v_two\.pkl"):
        export_pickles(target, folder)

    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "v_x.pkl").write_bytes(pickle.dumps(big))
    import_pickles(tmp_path / "bigstore", tmp_path / "big", base, 100)
    export_pickles(tmp_path / "bigstore", tmp_path / "bigout")
    data = (tmp_path / "bigout" / "v_x.pkl").read_bytes()
    assert data[:2] == b"\x80\x04", "protocol 4"
    assert pickle.loads(data).tobytes() == big.tobytes()


def test_export_refuses_what_a_file_cannot_say(tmp_path: Path) -> None:
    spec = replace(SPEC, store_dtype="float32")
    for number, (video_id, value, words) in enumerate(
        (("v" * 300, 1.0, "too long"), ("v", 1e6, "too large for float16"))
    ):
        store = create_store(tmp_path / f"{number}", spec)
        plan = extend_plan(store, [SourceVideo(video_id, "", 1, "d")], 1, {})
        features = np.full((2, D), value, np.float32)
        row = VideoRow(video_id, "ok", temporal=features, spatial=features)
        write_shard(store, spec, plan, 0, [row])
        with pytest.raises(StoreError, match=words):
            export_pickles(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_training_takes_imported_features_on_the_importers_word(
    pickles: Path, tmp_path: Path
) -> None:
    mini, target = load_base("mini"), tmp_path / "store"
    import_pickles(target, pickles, mini, T)
    spec = read_spec(target)
    check_store(mini, spec, target)
    with pytest.raises(FingerprintError, match="image_size"):
        check_store(mini, replace(spec, image_size=999), target)
    with pytest.raises(FingerprintError, match="weights_digest"):
        check_store(mini, replace(spec, weights_digest="00" * 32), target)
    with pytest.raises(FingerprintError, match="tower"):
        check_store(mini, replace(spec, tower="clip:other"), target)
    nobodys = replace(mini, tower="clip:/nowhere")
    import_pickles(tmp_path / "unknown", pickles, nobodys, T)
    spec = read_spec(tmp_path / "unknown")
    assert spec.weights_digest == "imported"
    check_store(mini, spec, tmp_path / "unknown")
