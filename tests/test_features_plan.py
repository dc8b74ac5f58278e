from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.errors import StoreError
from features.plan import (
    PlanRow,
    SourceVideo,
    extend_plan,
    find_videos,
    load_plan,
    source_video,
)


def videos(*ids: str, content: str = "x", folder: str = "/data") -> list[SourceVideo]:
    return [SourceVideo(i, f"{folder}/{i}.mp4", len(content), f"d-{content}") for i in ids]


def gone(*ids: str) -> list[SourceVideo]:
    return [SourceVideo(i, f"/data/{i}.mp4", -1, "") for i in ids]


def places(rows: Sequence[PlanRow]) -> list[tuple[str, int, int, int]]:
    return [(row.video_id, row.part, row.shard, row.row) for row in rows]


def test_find_videos_by_path_below_the_root(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    for name in ("b/two.MKV", "a.b.mp4", "notes.txt", ".hidden.mp4", ".trash/x.mp4", "b/é ü.webm"):
        (real / name).parent.mkdir(parents=True, exist_ok=True)
        (real / name).touch()
    root = tmp_path / "videos"
    root.mkdir()
    (root / "linked").symlink_to(real)
    (real / "ring").symlink_to(root)
    found = find_videos(root)
    assert list(found) == ["linked/a.b", "linked/b/two", "linked/b/é ü"]
    assert found["linked/b/two"] == root / "linked/b/two.MKV"


def test_find_videos_refuses_one_id_for_two_files(tmp_path: Path) -> None:
    for suffix in (".mp4", ".webm"):
        (tmp_path / f"v{suffix}").touch()
    with pytest.raises(StoreError, match=r"two files for one video id.*v\.mp4.*v\.webm"):
        find_videos(tmp_path)
    with pytest.raises(StoreError, match="no folder"):
        find_videos(tmp_path / "missing")


@pytest.mark.parametrize("size", [0, 10, 64 * 1024, 100_000, 300_000])
def test_source_digest_is_over_size_and_both_ends(tmp_path: Path, size: int) -> None:
    data = bytes(i * 7 % 251 for i in range(size))
    path = tmp_path / "v.mp4"
    path.write_bytes(data)
    edges = data[:65536] + data[max(0, size - 65536) :]
    wanted = hashlib.sha256(f"{size}\n".encode() + edges).hexdigest()
    assert source_video("v", path) == SourceVideo("v", str(path), size, wanted)


def test_missing_file_is_a_row_not_an_error(tmp_path: Path) -> None:
    assert source_video("v", None) == SourceVideo("v", "", -1, "")
    assert source_video("v", tmp_path / "no.mp4").size == -1
    assert source_video("v", tmp_path).size == -1


def test_plan_is_sorted_cut_in_shards_and_independent_of_order(tmp_path: Path) -> None:
    ids = ["c", "a", "e", "b", "d"]
    plan = extend_plan(tmp_path / "one", videos(*ids), 2, {})
    assert places(plan.rows) == [
        ("a", 1, 0, 0), ("b", 1, 0, 1), ("c", 1, 1, 0), ("d", 1, 1, 1), ("e", 1, 2, 0),
    ]  # fmt: skip
    assert {k: [r.video_id for r in rows] for k, rows in plan.shards().items()} == {
        0: ["a", "b"], 1: ["c", "d"], 2: ["e"],
    }  # fmt: skip
    other = extend_plan(tmp_path / "two", videos(*reversed(ids), folder="/mnt"), 2, {})
    assert other.part_hashes == plan.part_hashes
    assert other.rows[0].path == "/mnt/a.mp4"


def test_only_new_videos_are_planned(tmp_path: Path) -> None:
    assert load_plan(tmp_path).rows == ()
    first = extend_plan(tmp_path, videos("b", "d"), 2, {})
    second = extend_plan(tmp_path, videos("a", "b", "c", "d"), 2, {"b": "ok"})
    assert second.rows[:2] == first.rows
    assert places(second.rows[2:]) == [("a", 2, 1, 0), ("c", 2, 1, 1)]
    assert extend_plan(tmp_path, videos("a", "b"), 2, {}) == second
    assert len(list((tmp_path / "plan").iterdir())) == 2


def test_moved_mount_changes_nothing_but_paths(tmp_path: Path) -> None:
    first = extend_plan(tmp_path, videos("a", "b"), 2, {"a": "ok"})
    moved = extend_plan(tmp_path, videos("a", "b", folder="/mnt/new"), 2, {"a": "ok"})
    assert (moved.part_hashes, places(moved.rows)) == (first.part_hashes, places(first.rows))
    assert [row.path for row in moved.rows] == ["/mnt/new/a.mp4", "/mnt/new/b.mp4"]
    assert load_plan(tmp_path) == first


def test_changed_file_of_a_finished_video_refuses(tmp_path: Path) -> None:
    extend_plan(tmp_path, videos("a", "b"), 2, {})
    with pytest.raises(StoreError, match=r"finished video changed.*a \(/data/a\.mp4\).*another s"):
        extend_plan(tmp_path, videos("a", content="yy"), 2, {"a": "ok"})
    # A file that was removed to save space has its features already.
    assert len(extend_plan(tmp_path, gone("a"), 2, {"a": "ok"}).rows) == 2


def test_repaired_failures_are_planned_again(tmp_path: Path) -> None:
    extend_plan(tmp_path, [*videos("bad", "fine", "same"), *gone("lost")], 9, {})
    statuses = {"bad": "truncated", "fine": "ok", "same": "damaged", "lost": "missing"}
    now = [*videos("bad", content="yy"), *videos("fine", "same", "lost")]
    plan = extend_plan(tmp_path, now, 9, statuses)
    assert places(plan.rows[4:]) == [("bad", 2, 1, 0), ("lost", 2, 1, 1)]
    assert plan.latest()["bad"].part == 2
    assert plan.latest()["bad"].size == 2
    # They wait for their new rows now, so they have no status, and are not planned once more.
    again = extend_plan(tmp_path, now, 9, {"fine": "ok", "same": "damaged"})
    assert again == plan


def test_file_that_came_back_unchanged_after_a_missing_mount(tmp_path: Path) -> None:
    extend_plan(tmp_path, videos("a"), 1, {})
    assert len(extend_plan(tmp_path, gone("a"), 1, {}).rows) == 1
    assert len(extend_plan(tmp_path, videos("a"), 1, {"a": "missing"}).rows) == 2


def test_retry_failed_plans_every_failure(tmp_path: Path) -> None:
    extend_plan(tmp_path, [*videos("a", "b", "c"), *gone("d")], 9, {})
    statuses = {"a": "timeout", "b": "ok", "c": "damaged", "d": "missing"}
    plan = extend_plan(tmp_path, [*videos("a", "b"), *gone("d")], 9, statuses, retry_failed=True)
    assert places(plan.rows[4:]) == [("a", 2, 1, 0), ("d", 2, 1, 1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (videos("a", "a"), "the same video id twice"),
        (videos(""), "without an id"),
        (videos("bad\udcff"), r"not UTF-8.*bad\\udcff"),
    ],
)
def test_unusable_ids_are_refused(tmp_path: Path, given: list[SourceVideo], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        extend_plan(tmp_path, given, 2, {})
    with pytest.raises(StoreError, match="at least one"):
        extend_plan(tmp_path, videos("a"), 0, {})


def test_edited_damaged_or_lost_parts_are_refused(tmp_path: Path) -> None:
    for ids in ("ab", "abcd"):
        extend_plan(tmp_path, videos(*ids), 1, {})
    first = tmp_path / "plan" / "0001.parquet"
    kept = first.read_bytes()
    table = pq.read_table(first)
    pq.write_table(table.slice(0, 1).replace_schema_metadata(table.schema.metadata), first)
    with pytest.raises(StoreError, match=r"was edited.*0001\.parquet"):
        load_plan(tmp_path)
    header = {b"redvillm": table.schema.metadata[b"redvillm"].replace(b'"schema":1', b'"schema":0')}
    pq.write_table(table.replace_schema_metadata(header), first)
    with pytest.raises(StoreError, match=r"another schema version.*0001\.parquet"):
        load_plan(tmp_path)
    first.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(StoreError, match=r"cannot read the table.*0001\.parquet"):
        load_plan(tmp_path)
    first.unlink()
    with pytest.raises(StoreError, match=r"part of the plan is missing.*wanted: 1"):
        load_plan(tmp_path)
    first.write_bytes(kept)
    shutil.copy(first, tmp_path / "plan" / ".0003.parquet.deadbeef.tmp")
    assert len(load_plan(tmp_path).rows) == 4
