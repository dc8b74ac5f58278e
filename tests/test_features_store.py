"""One suite for both formats, on shards and stores laid out by hand, then the writer on top."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from zarr.codecs import Crc32cCodec, ZstdCodec

from features.durable import escape_name
from features.errors import FingerprintError, StoreError
from features.places import StorePath
from features.plan import Plan, SourceVideo, extend_plan, load_plan
from features.shard_format import get_format
from features.spec import FeatureSpec
from features.store import (
    Commit,
    FeatureStore,
    VideoRow,
    compact_index,
    content_digest,
    create_store,
    pending_shards,
    read_statuses,
    store_path,
    verify_store,
    write_shard,
)

SPEC = FeatureSpec("checkpoint", "ab" * 32, 28, "crop-bicubic", num_frames=4)
V, T, N, D = 3, 4, 9, 8
FRAMES = (4, 2, 0)


def arrays(seed: int = 0, scale: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V videos: a full one, a short one, a failure."""
    rng = np.random.default_rng(seed)
    temporal = rng.standard_normal((V, T, D * scale)).astype(np.float16)
    spatial = rng.standard_normal((V, N, D * scale)).astype(np.float16)
    for row, frames in enumerate(FRAMES):
        temporal[row, frames:] = np.nan
    spatial[2] = np.nan
    return temporal, spatial, np.array(FRAMES, np.int32)


def ok_row(video_id: str, frames: int = T, **given: Any) -> VideoRow:
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:4]))
    return VideoRow(
        video_id,
        "ok",
        temporal=rng.standard_normal((frames, D), dtype=np.float32),
        spatial=rng.standard_normal((N, D), dtype=np.float32),
        pts=tuple(i / 8 for i in range(frames)),
        decoder="decord",
        decoder_version="0.6.0",
        **given,
    )


def plan_ids(store: Path, *ids: str, per_shard: int = 2, **given: Any) -> Plan:
    found = [SourceVideo(i, f"/data/{i}", 1, "d") for i in ids]
    return extend_plan(store, found, per_shard, read_statuses(store), **given)


def write_all(store: Path, plan: Plan, name: str, rows: dict[str, VideoRow] | None = None) -> None:
    for shard in pending_shards(store, plan):
        planned = [row.video_id for row in plan.shards()[shard]]
        write_shard(
            store, SPEC, plan, shard, [(rows or {}).get(i) or ok_row(i) for i in planned], name
        )


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << (position % 8)
    path.write_bytes(data)


def lay_out_zarr(path: Path, skip: tuple[int, ...] = (), scale: int = 1) -> None:
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    for name, data in zip(("temporal", "spatial", "num_frames"), arrays(0, scale), strict=True):
        array = group.create_array(
            name,
            shape=data.shape,
            dtype=data.dtype,
            chunks=(1, *data.shape[1:]) if data.ndim > 1 else data.shape,
            shards=data.shape if data.ndim > 1 else None,
            compressors=[Crc32cCodec()],
            filters=None,
            fill_value=-1 if name == "num_frames" else float("nan"),
        )
        if data.ndim == 1:
            array[:] = data
        for row in set(range(V)) - set(skip) if data.ndim > 1 else ():
            array[row] = data[row]


def lay_out_hdf5(path: Path, skip: tuple[int, ...] = (), scale: int = 1) -> None:
    with h5py.File(path, "w") as file:
        for name, data in zip(("temporal", "spatial", "num_frames"), arrays(0, scale), strict=True):
            dataset = file.create_dataset(
                name,
                shape=data.shape,
                dtype=data.dtype,
                chunks=(1, *data.shape[1:]) if data.ndim > 1 else data.shape,
                fletcher32=True,
                fillvalue=-1 if name == "num_frames" else float("nan"),
            )
            for row in set(range(V)) - set(skip if data.ndim > 1 else ()):
                dataset[row] = data[row]


def lay_out_store(store: Path, name: str, suffix: str, lay_out: Callable[..., None]) -> None:
    """A store by hand, from the documented layout alone: none of our writers is called."""
    for folder in ("plan", "shards", "commits"):
        (store / folder).mkdir(parents=True)
    (store / "spec.json").write_text(json.dumps(SPEC.to_dict()))
    ids = ["a", "b", "c"]
    columns = {
        "video_id": ids,
        "path": ["/data/x"] * V,
        "size": pa.array([1] * V, pa.int64()),
        "digest": ["d"] * V,
        "shard": pa.array([0] * V, pa.int64()),
        "row": pa.array(range(V), pa.int64()),
    }
    planned = [[i, 1, "d", 0, row] for row, i in enumerate(ids)]
    part_hash = hashlib.sha256(json.dumps(planned, separators=(",", ":")).encode()).hexdigest()
    header = {b"redvillm": json.dumps({"schema": 1, "hash": part_hash}).encode()}
    table = pa.table(columns).replace_schema_metadata(header)
    pq.write_table(table, store / "plan" / "0001.parquet")
    temporal, spatial, _ = arrays()
    rows = [
        {
            "video_id": i,
            "status": "ok" if frames else "damaged",
            "message": "" if frames else "2 concealed errors",
            "decoder": "pyav",
            "decoder_version": "18",
            "num_frames": frames,
            "pts": [k / 4 for k in range(frames)],
            "sha256": hashlib.sha256(
                temporal[row, :frames].tobytes() + spatial[row].tobytes()
            ).hexdigest()
            if frames
            else "",
        }
        for row, (i, frames) in enumerate(zip(ids, FRAMES, strict=True))
    ]
    shard = store / "shards" / f"000000-beef{suffix}"
    lay_out(shard)
    files = [shard] if shard.is_file() else [p for p in shard.rglob("*") if p.is_file()]
    marker = {
        "schema": 1,
        "shard": 0,
        "attempt": "beef",
        "part_hash": part_hash,
        "fingerprint": SPEC.fingerprint,
        "format": name,
        "files": {
            str(p.relative_to(store)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        },
        "rows": rows,
    }
    text = json.dumps(marker, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(text[1:].encode()).hexdigest()
    (store / "commits" / "000000.json").write_text(f'{{"checksum":"{checksum}",{text[1:]}')


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


class StoreContract:
    """What every format owes; set-up goes around the code under test."""

    name: str
    suffix: str

    @staticmethod
    def lay_out(path: Path, skip: tuple[int, ...] = (), scale: int = 1) -> None:
        raise NotImplementedError

    @staticmethod
    def data_file(shard: Path) -> Path:
        raise NotImplementedError

    gone = "No such file"

    def at(self, path: Path) -> StorePath:
        """Where the code under test finds what was laid out in a folder: there."""
        return path

    @pytest.fixture
    def shard(self, tmp_path: Path) -> Path:
        return tmp_path / f"shard{self.suffix}"

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        lay_out_store(tmp_path / "store", self.name, self.suffix, self.lay_out)
        return tmp_path / "store"

    def test_reader_reads_what_a_plain_library_wrote(self, shard: Path) -> None:
        self.lay_out(shard)
        reader = get_format(self.name).open(self.at(shard))
        for row, (temporal, spatial, frames) in enumerate(zip(*arrays(), strict=True)):
            found = reader.read(row)
            np.testing.assert_array_equal(found[0], temporal)
            np.testing.assert_array_equal(found[1], spatial)
            assert found[2] == frames
            assert found[0].dtype == found[1].dtype == np.float16
        reader.close()

    def test_unwritten_chunk_never_reads_as_zeros(self, store: Path, shard: Path) -> None:
        self.lay_out(shard, skip=(0,))
        reader = get_format(self.name).open(self.at(shard))
        assert np.isnan(reader.read(0)[0]).all()
        assert np.isnan(reader.read(0)[1]).all()
        reader.close()
        there = store / "shards" / f"000000-beef{self.suffix}"
        there.rename(store / "kept")
        shard.rename(there)
        with pytest.raises(StoreError, match=r"store, video a \(shard 000000-beef, row 0.*never w"):
            FeatureStore.open(self.at(store))["a"]

    def test_one_row_is_read_without_the_others(self, shard: Path) -> None:
        self.lay_out(shard, scale=4096)
        reader = get_format(self.name).open(shard)
        row_bytes = sum(array.nbytes for array in reader.read(0)[:2])
        before = bytes_read()
        reader.read(1)
        assert bytes_read() - before < 1.05 * row_bytes + 8192
        reader.close()

    def test_plain_library_reads_what_our_writer_wrote(self, shard: Path) -> None:
        get_format(self.name).write(shard, *arrays())
        for found, wanted in zip(self.plain_read(shard), arrays(), strict=True):
            np.testing.assert_array_equal(found, wanted)
            assert found.dtype == wanted.dtype
        with pytest.raises(OSError, match=r"exist|already"):
            get_format(self.name).write(shard, *arrays())

    @staticmethod
    def plain_read(shard: Path) -> list[np.ndarray]:
        raise NotImplementedError

    def test_store_by_hand_reads(self, store: Path) -> None:
        there = self.at(store)
        features = FeatureStore.open(there)
        temporal, spatial, _ = arrays()
        assert features.ids == tuple(features) == ("a", "b")
        assert len(features) == 2
        assert "a" in features
        assert "c" not in features
        assert "nobody" not in features
        np.testing.assert_array_equal(features["b"].temporal, temporal[1, :2])
        np.testing.assert_array_equal(features["b"].spatial, spatial[1])
        assert features["b"].num_frames == 2
        assert features.failures == {"c": ("damaged", "2 concealed errors")}
        assert features.spec == SPEC
        with pytest.raises(StoreError, match=r"failed in extraction \(damaged\).*video c.*2 conc"):
            features["c"]
        with pytest.raises(StoreError, match=r"no such video.*nobody.*make extract"):
            features["nobody"]
        assert pending_shards(there, load_plan(there)) == []
        check = verify_store(there)
        assert (check.num_videos, check.num_failures, check.problems) == (2, 1, ())

    def test_content_digest_is_as_documented(self, store: Path) -> None:
        temporal, spatial, _ = arrays()
        lines = []
        for row, (i, frames) in enumerate(zip("abc", FRAMES, strict=True)):
            data = temporal[row, :frames].tobytes() + spatial[row].tobytes()
            sha = hashlib.sha256(data).hexdigest() if frames else ""
            fields = [i, "ok" if frames else "damaged", [k / 4 for k in range(frames)], sha]
            lines.append(json.dumps(fields, separators=(",", ":")) + "\n")
        wanted = hashlib.sha256("".join(lines).encode()).hexdigest()
        there = self.at(store)
        assert content_digest(there) == FeatureStore(there).content_digest == wanted
        compact_index(there)
        assert content_digest(there) == FeatureStore(there).content_digest == wanted
        assert verify_store(there).content_digest == wanted

    def test_flipped_bit_is_noticed_on_read(self, store: Path) -> None:
        file = self.data_file(store / "shards" / f"000000-beef{self.suffix}")
        row = arrays()[0][0].tobytes()
        flip(file, file.read_bytes().index(row) + len(row) // 2)
        there = self.at(store)
        features = FeatureStore(there)
        with pytest.raises(StoreError, match=r"damaged or missing.*/store, video a \(shard 000000"):
            features["a"]
        np.testing.assert_array_equal(features["b"].spatial, arrays()[1][1])
        problems = verify_store(there).problems
        assert any("sha256 is not the committed one" in problem for problem in problems)
        assert any("video a" in problem for problem in problems)

    def test_any_flipped_bit_is_noticed_or_harmless(self, tmp_path: Path) -> None:
        store = create_store(tmp_path / "s", SPEC)
        write_all(store, plan_ids(store, "a", "b"), self.name)
        good = FeatureStore(store)["b"]
        shards = [p for p in (store / "shards").rglob("*") if p.is_file()]
        rng, noticed = np.random.default_rng(0), 0
        for _ in range(150):
            file = shards[rng.integers(len(shards))]
            kept = file.read_bytes()
            flip(file, int(rng.integers(len(kept))))
            try:
                found = FeatureStore(store)["b"]
            except StoreError:
                noticed += 1
            else:
                np.testing.assert_array_equal(found.temporal, good.temporal)
                np.testing.assert_array_equal(found.spatial, good.spatial)
            file.write_bytes(kept)
        assert noticed > 20

    def test_missing_files_are_noticed(self, store: Path) -> None:
        file = self.data_file(store / "shards" / f"000000-beef{self.suffix}")
        file.unlink()
        with pytest.raises(StoreError, match=r"damaged or missing.*video a"):
            FeatureStore(self.at(store))["a"]
        assert any(self.gone in problem for problem in verify_store(self.at(store)).problems)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_forked_workers_read_right_values(self, store: Path) -> None:
        check_loader([self.at(store)], "fork")

    def test_store_pickles_without_its_handles(self, store: Path) -> None:
        features = FeatureStore(self.at(store))
        features["a"].temporal  # noqa: B018 - opens the shard
        copy = pickle.loads(pickle.dumps(features))
        np.testing.assert_array_equal(copy["a"].temporal, features["a"].temporal)


class TestZarr(StoreContract):
    name, suffix = "zarr", ".zarr"
    lay_out = staticmethod(lay_out_zarr)

    @staticmethod
    def data_file(shard: Path) -> Path:
        return shard / "temporal" / "c" / "0" / "0" / "0"

    @staticmethod
    def plain_read(shard: Path) -> list[np.ndarray]:
        group: Any = zarr.open_group(shard, mode="r")
        return [group[name][:] for name in ("temporal", "spatial", "num_frames")]

    def test_layout_is_one_checksummed_file_an_array(self, shard: Path) -> None:
        get_format("zarr").write(shard, *arrays())
        for name, fill in (("temporal", "NaN"), ("spatial", "NaN"), ("num_frames", -1)):
            assert len([p for p in (shard / name / "c").rglob("*") if p.is_file()]) == 1
            meta = json.loads((shard / name / "zarr.json").read_text())
            (codec,) = meta["codecs"]
            assert meta["fill_value"] == fill
            assert codec["name"] == "sharding_indexed"
            inner = [c["name"] for c in codec["configuration"]["codecs"]]
            assert inner == ["bytes", "crc32c"]
        assert json.loads((shard / "spatial/zarr.json").read_text())["codecs"][0]["configuration"][
            "chunk_shape"
        ] == [1, N, D]

    @pytest.mark.parametrize(
        "layout",
        [{"shards": None}, {"chunks": (1, 3, D)}, {"compressors": [ZstdCodec(), Crc32cCodec()]}],
    )
    def test_other_layouts_are_read_too(self, shard: Path, layout: dict[str, Any]) -> None:
        self.lay_out(shard)
        group = zarr.open_group(shard)
        ours = {"shards": (V, N, D), "chunks": (1, N, D), "compressors": [Crc32cCodec()]}
        spatial = arrays()[1]
        array = group.create_array(
            "spatial", shape=spatial.shape, dtype="f2", overwrite=True, **{**ours, **layout}
        )
        array[...] = spatial
        reader = get_format("zarr").open(shard)
        for row in range(V):
            np.testing.assert_array_equal(reader.read(row)[1], spatial[row])
        reader.close()


class TestHdf5(StoreContract):
    name, suffix = "hdf5", ".h5"
    lay_out = staticmethod(lay_out_hdf5)

    @staticmethod
    def data_file(shard: Path) -> Path:
        return shard

    @staticmethod
    def plain_read(shard: Path) -> list[np.ndarray]:
        with h5py.File(shard, "r") as file:
            return [file[name][:] for name in ("temporal", "spatial", "num_frames")]

    def test_layout_is_one_checksummed_chunk_a_video(self, shard: Path) -> None:
        get_format("hdf5").write(shard, *arrays())
        with h5py.File(shard, "r") as file:
            assert file["spatial"].chunks == (1, N, D)
            assert all(file[name].fletcher32 for name in ("temporal", "spatial", "num_frames"))
            assert np.isnan(file["temporal"].fillvalue)
            assert file["num_frames"].fillvalue == -1


class StoreDataset:
    """What the trainer's dataset does with a store: both videos of each, again and again."""

    def __init__(self, stores: list[FeatureStore]) -> None:
        self.stores = stores

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index >= len(self):
            raise IndexError
        found = self.stores[index // 2 % len(self.stores)]["ab"[index % 2]]
        return found.temporal, found.spatial


def check_loader(stores: Sequence[StorePath], start: str) -> None:
    features = [FeatureStore(store) for store in stores]
    first = [each["a"].spatial for each in features]  # handles are open before the fork
    context = multiprocessing.get_context(start)
    dataset = StoreDataset(features)
    found = list(DataLoader(dataset, None, num_workers=2, multiprocessing_context=context))
    assert len(found) == 8
    for index, (temporal, spatial) in enumerate(found):
        np.testing.assert_array_equal(temporal, arrays()[0][index % 2, : FRAMES[index % 2]])
        np.testing.assert_array_equal(spatial, arrays()[1][index % 2])
    for each, spatial in zip(features, first, strict=True):
        np.testing.assert_array_equal(each["a"].spatial, spatial)


def test_spawned_workers_read_right_values(tmp_path: Path) -> None:
    lay_out_store(tmp_path / "z", "zarr", ".zarr", lay_out_zarr)
    lay_out_store(tmp_path / "h", "hdf5", ".h5", lay_out_hdf5)
    check_loader([tmp_path / "z", tmp_path / "h"], "spawn")


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_round_trip_of_shapes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    draw = data.draw
    frames, patches, width = (draw(st.integers(1, 5)) for _ in range(3))
    name = draw(st.sampled_from(["zarr", "hdf5"]))
    dtype = draw(st.sampled_from(["float16", "float32"]))
    spec = replace(SPEC, num_frames=frames, store_dtype=dtype)
    store = create_store(tmp_path_factory.mktemp("round"), spec)
    lengths = draw(st.lists(st.integers(0, frames), min_size=1, max_size=4))
    plan = plan_ids(store, *(f"v{i}" for i in range(len(lengths))), per_shard=4)
    rng = np.random.default_rng(0)
    rows = [
        VideoRow(
            f"v{i}",
            "ok" if length else "empty",
            temporal=rng.standard_normal((length, width), dtype=np.float32),
            spatial=rng.standard_normal((patches, width), dtype=np.float32),
        )
        for i, length in enumerate(lengths)
    ]
    write_shard(store, spec, plan, 0, rows, name)
    features = FeatureStore(store)
    for row, length in zip(rows, lengths, strict=True):
        assert (row.video_id in features) == bool(length)
        if length:
            assert row.temporal is not None
            assert row.spatial is not None
            found = features[row.video_id]
            np.testing.assert_array_equal(found.temporal, row.temporal.astype(dtype))
            np.testing.assert_array_equal(found.spatial, row.spatial.astype(dtype))
    assert verify_store(store).problems == ()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return create_store(store_path(tmp_path, "demo", "mini", SPEC), SPEC)


def test_store_path_names_dataset_base_frames_and_spec() -> None:
    found = store_path(Path("/f"), "demo", "llava-1.5-7b", SPEC)
    assert found == Path(f"/f/demo/llava-1.5-7b-t4-{SPEC.fingerprint[:8]}")
    hostile = store_path(Path("/f"), "../..", "a/b", SPEC)
    assert hostile.parent.parent == Path("/f")
    assert ".." not in hostile.parts


def test_another_spec_is_refused_naming_what_differs(store: Path) -> None:
    assert create_store(store, SPEC) == store
    other = replace(SPEC, num_frames=8, layer=-1)
    with pytest.raises(FingerprintError, match=r"got: .*'num_frames': 4.*wanted: .*: 8.*another f"):
        create_store(store, other)
    plan = plan_ids(store, "a")
    with pytest.raises(FingerprintError):
        write_shard(store, other, plan, 0, [ok_row("a")])


def test_no_store_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no feature store there.*make extract"):
        FeatureStore(tmp_path / "nowhere")
    (tmp_path / "spec.json").write_text("[1]")
    with pytest.raises(StoreError, match=r"cannot read the spec.*not a JSON object"):
        FeatureStore(tmp_path)


def test_digest_is_the_same_for_both_formats_any_order_any_attempt(tmp_path: Path) -> None:
    digests = set()
    for name, per_shard, backwards in [("zarr", 2, False), ("hdf5", 3, True), ("zarr", 5, True)]:
        store = create_store(tmp_path / f"{name}{per_shard}", SPEC)
        plan = plan_ids(store, *"abcde", per_shard=per_shard)
        for shard in sorted(plan.shards(), reverse=backwards):
            planned = [row.video_id for row in plan.shards()[shard]]
            assert write_shard(store, SPEC, plan, shard, [ok_row(i) for i in planned], name).won
        digests |= {content_digest(store), verify_store(store).content_digest}
    assert len(digests) == 1


def test_commit_tells_what_was_written(store: Path) -> None:
    plan = plan_ids(store, "a", "b")
    commit = write_shard(store, SPEC, plan, 0, [ok_row("a", 3), VideoRow("b", "empty", "0 bytes")])
    assert commit.won
    assert [(r.status, r.num_frames, r.message) for r in commit.rows] == [
        ("ok", 3, ""), ("empty", 0, "0 bytes"),
    ]  # fmt: skip
    assert commit.rows[0].pts == (0.0, 0.125, 0.25)
    on_disk = {str(p.relative_to(store)) for p in (store / "shards").rglob("*") if p.is_file()}
    assert set(commit.files) == on_disk
    assert Commit.decode((store / "commits/000000.json").read_bytes(), store) == commit


def test_thumbnails_are_vouched_for_too(store: Path) -> None:
    plan = plan_ids(store, "a")
    commit = write_shard(store, SPEC, plan, 0, [replace(ok_row("a", 3), thumbs=(b"jpeg",))])
    name = f"thumbs/{commit.stem}.zip"
    assert name in commit.files
    assert verify_store(store).problems == ()
    (store / name).write_bytes(b"something else")
    assert verify_store(store).problems == (f"{name}: its sha256 is not the committed one",)


def test_non_finite_rows_become_failures(store: Path) -> None:
    bad = {}
    for name, value in (("nan", np.nan), ("inf", np.inf), ("overflow", 1e6)):
        row = ok_row(name)
        assert row.temporal is not None
        row.temporal[1, 2] = value
        bad[name] = row
    bad["pts"] = replace(ok_row("pts"), pts=(0.0, 1.0, 2.0, float("nan")))
    plan = plan_ids(store, "fine", *bad, per_shard=9)
    write_all(store, plan, "zarr", bad)
    assert read_statuses(store) == {"fine": "ok", **dict.fromkeys(bad, "non-finite")}
    assert "float16" in FeatureStore(store).failures["overflow"][1]


def test_shard_of_failures_only(store: Path) -> None:
    plan = plan_ids(store, "a", "b")
    rows = [VideoRow("a", "missing"), VideoRow("b", "timeout", "bad name \udcff " + "x" * 999)]
    commit = write_shard(store, SPEC, plan, 0, rows)
    assert commit.files == {}
    compact_index(store)
    assert FeatureStore(store).failures["b"] == ("timeout", commit.rows[1].message)
    assert len(commit.rows[1].message) == 500


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ok_row("b"), ok_row("a")], r"not the planned ones.*wanted: \['a', 'b'\]"),
        ([ok_row("a")], "not the planned ones"),
        ([ok_row("a"), ok_row("b", 5)], r"wrong number of frames.*b.*5 temporal rows"),
        ([ok_row("a"), replace(ok_row("b"), pts=(1.0,))], r"wrong number.*1 time stamps"),
        ([ok_row("a"), replace(ok_row("b"), temporal=None)], "ok row without features.*b"),
        ([ok_row("a"), replace(ok_row("b"), spatial=np.ones((2, D)))], "differ in shape"),
        ([ok_row("a", 5), ok_row("b")], "wrong number of frames"),
    ],
)
def test_rows_that_do_not_fit_are_refused(store: Path, rows: list[VideoRow], message: str) -> None:
    plan = plan_ids(store, "a", "b")
    with pytest.raises(StoreError, match=message):
        write_shard(store, SPEC, plan, 0, rows)
    assert pending_shards(store, plan) == [0]
    with pytest.raises(StoreError, match=r"unknown shard format.*hdf5.*zarr"):
        write_shard(store, SPEC, plan, 0, [ok_row("a"), ok_row("b")], "tar")


def test_a_disk_that_lies_is_noticed_before_the_commit(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, plan = get_format("zarr"), plan_ids(store, "a")
    write = form.write

    def lie(path: Path, temporal: np.ndarray, *rest: np.ndarray) -> None:
        write(path, temporal + np.float16(1), *rest)

    monkeypatch.setattr(form, "write", lie)
    with pytest.raises(StoreError, match=r"cannot write the shard.*reads back otherwise"):
        write_shard(store, SPEC, plan, 0, [ok_row("a")])
    monkeypatch.setattr(form, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(StoreError, match=r"shard 0.*disk full"):
        write_shard(store, SPEC, plan, 0, [ok_row("a")])
    assert pending_shards(store, plan) == [0]


def test_later_part_wins_and_new_videos_extend(store: Path) -> None:
    write_all(store, plan_ids(store, "a", "b"), "zarr", {"b": VideoRow("b", "timeout")})
    assert pending_shards(store, plan_ids(store, "a", "b", "c")) == [1]
    plan = plan_ids(store, "a", "b", "c", retry_failed=True)
    assert pending_shards(store, plan) == [1, 2]
    assert read_statuses(store) == {"a": "ok"}
    assert FeatureStore(store).failures == {"b": ("timeout", "")}  # until the new row is there
    assert plan_ids(store, "a", "b", "c", retry_failed=True) == plan
    write_all(store, plan, "hdf5")
    features = FeatureStore(store)
    assert features.ids == ("a", "b", "c")
    assert features.failures == {}
    whole = create_store(store.parent / "whole", SPEC)
    write_all(whole, plan_ids(whole, "a", "b", "c"), "zarr")
    assert features.content_digest == content_digest(whole)


def test_stale_or_damaged_index_is_not_believed(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_all(store, plan_ids(store, "a", "b"), "zarr")
    index = compact_index(store)
    assert FeatureStore(store).ids == ("a", "b")
    table = pq.read_table(index)
    assert table.column("pts").to_pylist()[0] == [0.0, 0.125, 0.25, 0.375]
    assert {"shard", "row", "attempt", "format", "decoder"} <= set(table.column_names)
    write_all(store, plan_ids(store, "a", "b", "c"), "zarr")
    assert FeatureStore(store).ids == ("a", "b", "c")
    compact_index(store)
    flip(index, 40)
    assert FeatureStore(store).ids == ("a", "b", "c")
    assert "ignoring the index" in caplog.text


def test_fresh_index_is_read_without_the_markers(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(store, plan_ids(store, "a"), "zarr")
    compact_index(store)
    monkeypatch.setattr("features.catalog.load_commits", lambda *_: pytest.fail("read a marker"))
    assert FeatureStore(store)["a"].num_frames == T


def test_resume_opens_no_shard(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(store, plan_ids(store, *"abcd"), "zarr")
    (store / "shards").rename(store / "away")
    assert pending_shards(store, plan_ids(store, *"abcd")) == []
    assert read_statuses(store) == dict.fromkeys("abcd", "ok")


HOSTILE = ["../../x", "a/b", "..", ".", "/etc/passwd", "日本/ビデオ é", "CON", "con.txt", "é" * 300,
           "x" * 300, "a b\n\t", "C:\\x", "%2E%2E", "-rf", "nul", "."*300]  # fmt: skip


def test_hostile_ids_stay_in_their_folder(store: Path) -> None:
    plan = plan_ids(store, *HOSTILE, per_shard=99)
    rows = {i: ok_row(i, thumbs=(b"jpeg-0" + i.encode(), b"jpeg-1")) for i in HOSTILE}
    before = {p for p in store.parent.parent.rglob("*") if store not in p.parents}
    write_all(store, plan, "zarr", rows)
    compact_index(store)
    assert {p for p in store.parent.parent.rglob("*") if store not in p.parents} == before
    features = FeatureStore(store)
    assert sorted(features.ids) == sorted(HOSTILE)
    for video_id, row in rows.items():
        np.testing.assert_array_equal(features[video_id].temporal, row.temporal.astype(np.float16))
        assert features.thumbs(video_id) == list(row.thumbs)
    (archive,) = (store / "thumbs").iterdir()
    with zipfile.ZipFile(archive) as file:
        assert len(file.namelist()) == len(set(file.namelist())) == 2 * len(HOSTILE)
        for name in file.namelist():
            folder, _, image = name.partition("/")
            assert image in ("0.jpg", "1.jpg")
            assert folder.isascii()
            assert len(folder) <= 200
            assert not folder.startswith(".")
            assert not set(folder) & set('/\\:*?"<>| \n')
            assert folder.partition(".")[0].upper() not in {"CON", "NUL"}


@given(st.text(), st.text())
def test_escaped_names_never_collide(one: str, two: str) -> None:
    assert (escape_name(one) == escape_name(two)) == (one == two)
    assert "/" not in escape_name(one)
    assert escape_name(one) not in ("", ".", "..")


def test_thumbs_of_many_videos_come_in_the_order_asked_for(store: Path) -> None:
    ids = [f"v{number}" for number in range(6)]
    plan = plan_ids(store, *ids)
    strips = {i: (i.encode(),) for i in ids if i not in ("v2", "v3", "v5")}  # v2, v3: no archive
    write_all(store, plan, "zarr", {i: ok_row(i, thumbs=strips.get(i, ())) for i in ids})
    features = FeatureStore(store)
    asked = ["v5", "v0", "v1", "v0", "v3", "v2", "v4"]
    assert list(features.each_thumbs(asked)) == [list(strips.get(i, ())) for i in asked]


def test_thumbs_are_optional_outside_the_digest_and_checked(store: Path) -> None:
    plan = plan_ids(store, "a", "b")
    write_all(store, plan, "zarr", {"a": ok_row("a", thumbs=(b"x" * 99,))})
    features = FeatureStore(store)
    assert (features.thumbs("a"), features.thumbs("b")) == ([b"x" * 99], [])
    bare = create_store(store.parent / "bare", SPEC)
    write_all(bare, plan_ids(bare, "a", "b"), "zarr")
    assert FeatureStore(bare).thumbs("a") == []
    assert content_digest(bare) == content_digest(store)
    (archive,) = (store / "thumbs").iterdir()
    flip(archive, archive.read_bytes().index(b"xxxx") + 8)
    with pytest.raises(StoreError, match="cannot read thumbnails"):
        features.thumbs("a")
