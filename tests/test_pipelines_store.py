"""`python -m pipelines store`, from outside, on stores that the embedded base extracted."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from features.store import FeatureStore, content_digest, verify_store
from pipelines.__main__ import main
from pipelines.store_commands import VERBS

EXPERIMENT = str(
    Path(__file__).resolve().parent.parent / "pipelines" / "recipes" / "experiments/red-villm.yaml"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, clip: Callable[..., Path]) -> Path:
    """Six clips and an empty file in three shards: all of them, and in two parts on two disks."""
    root = tmp_path_factory.mktemp("world")
    for seed in range(6):
        clip(root / "clips" / f"v{seed}.mp4", num_frames=4 + 12 * seed, seed=seed)
    (root / "clips" / "w.mp4").touch()
    rows = [
        {"video": f"v{i}", "question": f"what is {word}", "answer": "red", "split": "train"}
        for i in range(6)
        for word in ("left", "right")
    ]
    (root / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["extract", "--videos", str(root / "clips"), "--videos_per_shard", "3"]
    for name, part in (("whole", "1/1"), ("half1", "1/2"), ("half2", "2/2")):
        assert main([*command, "--features", str(root / name), "--part", part]) == 0
        (made,) = (root / name / "clips").iterdir()
        made.rename(root / f"{name}-store")
    return root


@pytest.fixture
def store(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world / "whole-store", tmp_path / "store"))


def store_command(*args: object) -> int:
    return main(["store", *map(str, args)])


def test_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ((), ("--help",)):
        assert store_command(*args) == 0
        out = capsys.readouterr().out
        for verb in ("verify", "info", "convert", "merge", "import", "export", "gc"):
            assert f"\n  {verb} " in out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        store_command(verb, "--help")
    assert caught.value.code == 0
    assert "positional arguments:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["verfy"], ["store:", "no such verb", "did you mean verify"]),
        (["verify"], ["required", "stores"]),
        (["info", "nowhere"], ["no feature store there", "nowhere"]),
        (["convert", "nowhere", "there"], ["required", "format"]),
        (["convert", "nowhere", "there", "--format", "npy"], ["npy", "zarr"]),
        (["convert", "nowhere", "there", "--format", "zarr"], ["no feature store there"]),
        (["merge", "there"], ["required", "sources"]),
        (["import", "there", "nowhere", "--base", "minni"], ["no such base", "did you mean mini"]),
        (["import", "there", "nowhere", "--base", "mini"], ["no pickles there", "nowhere"]),
        (["gc", "nowhere", "--oder_than_hours", "1"], ["did you mean older_than_hours"]),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    args: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_command(*args) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_a_flipped_bit(
    world: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store_command("verify", store, world / "half1-store") == 0
    out = capsys.readouterr().out
    assert f"{store}: sound; 6 videos, 1 failures" in out
    assert f"{world / 'half1-store'}: sound" in out
    assert "leftovers" not in out
    (store / "shards" / f"000009-{'ab' * 8}.h5").write_bytes(b"x" * 2000)
    assert store_command("verify", store) == 0
    assert "1 leftovers (2.0 kB) do no harm" in capsys.readouterr().out
    (file,) = (store / "shards").glob("000000-*/spatial/c/0/0/0")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert store_command("verify", store.parent / "nowhere", store, world / "half1-store") == 2
    out = capsys.readouterr().out
    assert "no feature store there" in out
    assert f"{world / 'half1-store'}: sound" in out
    assert "spatial/c/0/0/0: its sha256 is not the committed one" in out
    assert "damaged or missing" in out
    assert store_command("info", store) == 0


def test_info_in_words_and_for_machines(
    world: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store_command("info", store) == 0
    out = capsys.readouterr().out
    digest = content_digest(store)
    for words in ("6 with features, 0 waiting", "empty 1", "zarr 3", "pyav ", digest[:16]):
        assert words in out
    assert store_command("info", world / "half2-store", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["failed"], facts["waiting"]) == (3, {}, 4)
    assert facts["shards"] == {"zarr": 1, "waiting": 2}


def test_convert_and_merge(
    world: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = content_digest(store)
    assert store_command("convert", store, tmp_path / "h5", "--format", "hdf5") == 0
    assert "3 shards written (7 videos), 0 still pending" in capsys.readouterr().out
    assert verify_store(tmp_path / "h5").content_digest == digest
    halves = [world / "half1-store", world / "half2-store"]
    assert store_command("merge", tmp_path / "merged", *halves, "--format", "hdf5") == 0
    assert f"6 videos with features in hdf5 3 shards, content {digest[:16]}" in (
        capsys.readouterr().out
    )
    check = verify_store(tmp_path / "merged")
    assert (check.problems, check.content_digest) == ((), digest)
    thumbs = FeatureStore(tmp_path / "merged").thumbs("v3")
    assert len(thumbs) == 8
    assert thumbs == FeatureStore(store).thumbs("v3")


def test_exported_features_train_as_the_originals_do(
    world: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "pickles", tmp_path / "again"
    assert store_command("export", store, out) == 0
    assert "6 pickles written" in capsys.readouterr().out
    frames = FeatureStore(store).spec.num_frames
    command = ["import", again, out, "--base", "mini", "--num_frames", frames]
    assert store_command(*command, "--format", "hdf5") == 0
    assert FeatureStore(again).spec.tower == "imported:video-chatgpt"
    options = ["--videos", str(world / "clips"), "--annotations", str(world / "qa.jsonl")]
    losses = []
    for number, path in enumerate((store, again)):
        runs = tmp_path / f"runs{number}"
        asked = ["--store", str(path), "--runs", str(runs), "--batch_size", "4", "--epochs", "1"]
        assert main(["train", "--config", EXPERIMENT, *options, *asked]) == 0
        (metrics,) = runs.glob("*/*/*/metrics.json")
        losses.append(json.loads(metrics.read_text())["loss"])
    assert losses[0] == losses[1]
    assert capsys.readouterr().out.count("taken on trust") == 1


def test_gc_lists_first_and_deletes_when_told(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, young = (store / "shards" / f"000001-{name * 8}.h5" for name in ("ab", "cd"))
    for path in (old, young):
        path.write_bytes(b"x" * 5000)
    os.utime(old, (time.time() - 30 * 3600,) * 2)
    assert store_command("gc", store) == 0
    out = capsys.readouterr().out
    assert old.name in out
    assert young.name not in out
    assert "1 leftovers, 5.0 kB, to be removed with --delete" in out
    assert "1 younger ones left alone" in out
    assert old.exists()
    assert store_command("gc", "--delete", store) == 0
    assert not old.exists()
    assert young.exists()
    assert store_command("gc", store, "--delete", "--older_than_hours", "0") == 0
    assert not young.exists()
    assert verify_store(store).problems == ()
