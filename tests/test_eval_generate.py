"""Answers of the embedded base to questions about made-up features, on real files and processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_eval import RANDOM, SPEC, save_run

from eval.answer_files import merge_parts, start_over
from eval.answering import Answer, Asked, Decoding, TorchEngine
from eval.folders import META, PREDICTIONS, eval_folder, read_meta, read_predictions
from eval.generate import GenerateConfig, generate
from features.annotations import QASample, load_annotations, write_qa_pairs
from features.config import BaseConfig, DatasetConfig, SplitConfig
from features.durable import file_sha256
from features.errors import ConfigError, FingerprintError, RedVillmError
from features.plan import extend_plan, source_video
from features.store import FeatureStore, VideoRow, create_store, write_shard
from train.batch import Item
from train.checkpoint import load_projectors
from train.image_llm import load_image_llm
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import VideoReader

FAILED, NEVER_SEEN = "v07", "v99"
CONFIG = GenerateConfig(batch_size=4, max_new_tokens=5, dtype="float64", device="cpu")


@pytest.fixture(scope="module")
def base(mini_dir: Path) -> BaseConfig:
    return BaseConfig("mini", str(mini_dir), image_size=32, num_frames=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = create_store(tmp_path_factory.mktemp("store"), SPEC)
    ids = [f"v{i:02d}" for i in range(8)]
    plan = extend_plan(path, [source_video(i, None) for i in ids], 8, {})
    rng = np.random.default_rng(0)
    rows = []
    for number, video_id in enumerate(ids):
        temporal = rng.normal(size=(8 - number % 3, 96)).astype(np.float32)  # some are short
        spatial = rng.normal(size=(16, 96)).astype(np.float32)
        rows.append(VideoRow(video_id, "ok", temporal=temporal, spatial=spatial))
    rows[-1] = VideoRow(FAILED, "truncated", "the file ends early")
    write_shard(path, SPEC, plan, 0, rows)
    return FeatureStore(path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    folder = tmp_path_factory.mktemp("annotations")
    rng = random.Random(0)
    words = ["what", "is", "the", "first", "colour", "red", "circle", "where", "moves", "last"]
    samples = [
        QASample(
            f"q{number:02d}",
            NEVER_SEEN if number == 5 else f"v{number % 8:02d}",
            " ".join(rng.choices(words, k=rng.randrange(3, 9))),
            "red",
            rng.choice(["temporal", "spatial"]),
        )
        for number in range(48)
    ]
    write_qa_pairs(folder / "test_q.json", folder / "test_a.json", samples)
    split = SplitConfig("qa-pairs", folder / "test_q.json", folder / "test_a.json")
    pairs = [
        {
            "Q1": " ".join(rng.choices(words, k=rng.randrange(3, 9))),
            "Q2": " ".join(rng.choices(words, k=rng.randrange(3, 9))),
            "A": "red",
            "video_name": f"v{number % 8:02d}",
        }
        for number in range(16)
    ]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    twice = SplitConfig("consistency", folder / "pairs.json", aspects=("consistency",))
    return DatasetConfig("tiny", folder, {"test": split, "pairs": twice}, ("what", "where"))


@pytest.fixture
def run(tmp_path: Path, base: BaseConfig, store: FeatureStore) -> Path:
    return save_run(tmp_path / "run", base, store)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
) -> list[dict[str, Any]]:
    """What an uninterrupted run answers."""
    run = save_run(tmp_path_factory.mktemp("whole"), base, store)
    return read_predictions(generate(CONFIG, base, dataset, run, store))


def by_id(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["sample_id"]))


def test_every_question_gets_a_row(whole: list[dict[str, Any]], dataset: DatasetConfig) -> None:
    samples = {s.sample_id: s for s in load_annotations(dataset.splits["test"])}
    assert {row["sample_id"] for row in whole} == set(samples)
    assert len(whole) == 48
    for row in whole:
        sample = samples[row["sample_id"]]
        assert [row[k] for k in ("video_id", "type", "question", "answer")] == [
            sample.video_id,
            sample.type,
            sample.question,
            sample.answer,
        ]
    lost = {row["sample_id"]: row["lost"] for row in whole if row["lost"]}
    assert lost == {f"q{n:02d}": "truncated" for n in range(7, 48, 8)} | {"q05": "not-extracted"}
    assert all((row["pred"] is None) == (row["sample_id"] in lost) for row in whole)
    assert len({row["pred"] for row in whole}) > 3  # answers differ, so the comparisons here bite


def test_answers_equal_one_at_a_time_without_cache_or_padding(
    whole: list[dict[str, Any]],
    base: BaseConfig,
    store: FeatureStore,
    tmp_path: Path,
) -> None:
    llm = load_image_llm(base, dtype=torch.float64)
    run = save_run(tmp_path, base, store)
    projector = load_projectors(run / "projectors", llm, SPEC)
    prompter, videos = Prompter.of(base, llm), VideoReader(store)
    table = llm.llm.get_input_embeddings().weight
    for row in [row for row in whole if row["pred"] is not None][::5]:
        video = videos[row["video_id"]]
        assert projector.temporal is not None
        assert projector.alignment is not None
        every = torch.ones(1, 99, dtype=torch.bool)
        tokens = torch.cat(
            [
                module(x[None], every[:, : len(x)])[0][0]
                for module, x in (
                    (projector.temporal, video.temporal),
                    (projector.alignment, video.spatial),
                )
            ]
        )
        prompt = prompter.encode(row["question"])
        before, after = prompt.ids[: prompt.image_at], prompt.ids[prompt.image_at + 1 :]
        sequence = torch.cat([table[before], tokens.double(), table[after]])
        said: list[int] = []
        with torch.no_grad():
            while len(said) < CONFIG.max_new_tokens:
                token = int(llm.llm(inputs_embeds=sequence[None]).logits[0, -1].argmax())
                if token in llm.stop_ids:
                    break
                said.append(token)
                sequence = torch.cat([sequence, table[[token]]])
        text = llm.tokenizer.decode(said, skip_special_tokens=True).strip()
        reason = "stop" if len(said) < CONFIG.max_new_tokens else "length"
        found = (row["pred"], row["num_tokens"], row["finish_reason"])
        assert found == (text, len(said), reason)


def test_finish_reason(base: BaseConfig, store: FeatureStore, tmp_path: Path) -> None:
    llm = load_image_llm(base)
    model = VideoLLM.of(
        load_projectors(save_run(tmp_path, base, store) / "projectors", llm, SPEC), llm
    )
    prompt, video = Prompter.of(base, llm).encode("what is red"), VideoReader(store)["v00"]
    count = model.projector.num_tokens(len(video.temporal), len(video.spatial))
    asked = Asked("q", 1, Item((), Prompter.of(base, llm).expand(prompt, count), video))
    [cut] = TorchEngine(model, llm, Decoding(1))([asked])
    assert (cut.finish_reason, cut.num_tokens, len(cut.text.split())) == ("length", 1, 1)
    first = llm.tokenizer.convert_tokens_to_ids(cut.text)
    [stopped] = TorchEngine(model, replace(llm, stop_ids=(first,)), Decoding(6))([asked])
    assert stopped == Answer("", "stop", 0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_batch_size_does_not_change_the_text(
    dtype: str,
    whole: list[dict[str, Any]],
    run: Path,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
) -> None:
    texts = []
    for size in (1, 8):
        config = replace(CONFIG, batch_size=size, dtype=dtype, resume=False)
        texts.append(by_id(read_predictions(generate(config, base, dataset, run, store))))
    assert texts[0] == texts[1] == by_id(whole)


def test_killed_at_seeded_moments_ends_as_if_nothing_had_happened(
    whole: list[dict[str, Any]],
    run: Path,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
) -> None:
    path = eval_folder(run, "tiny", "test") / PREDICTIONS
    rng = random.Random(0)
    kills = 0
    for wanted in sorted(rng.sample(range(7, 44), 4)):
        # A forked process spares the test four starts of Python; it is killed like any other.
        child = multiprocessing.get_context("fork").Process(
            target=generate, args=(CONFIG, base, dataset, run, store)
        )
        child.start()
        assert child.pid is not None
        while child.is_alive():
            if path.exists() and path.read_bytes().count(b"\n") >= wanted:
                os.kill(child.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        # A kill in the middle of a write, which is too quick to hit, leaves a torn line.
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - rng.randrange(1, 40)])
    assert kills >= 3
    before = path.read_bytes()
    rows = read_predictions(generate(CONFIG, base, dataset, run, store))
    assert by_id(rows) == by_id(whole)
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])  # append-only


def test_nothing_is_computed_twice(
    run: Path,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = generate(CONFIG, base, dataset, run, store)
    before = (folder / PREDICTIONS).read_bytes()
    monkeypatch.setattr("eval.generate.load_image_llm", lambda *_: pytest.fail("loaded again"))
    generate(CONFIG, base, dataset, run, store)
    assert (folder / PREDICTIONS).read_bytes() == before


def test_resuming_under_other_conditions_is_refused_naming_both(
    run: Path, base: BaseConfig, dataset: DatasetConfig, store: FeatureStore
) -> None:
    folder = generate(CONFIG, base, dataset, run, store)
    meta = read_meta(folder)
    wanted = {"base", "spec", "features", "checkpoint", "annotations", "dtype", "batch_size"}
    assert wanted | {"max_new_tokens"} <= set(meta)
    with pytest.raises(FingerprintError, match=r"got: \{'batch_size': 4\}.*\{'batch_size': 3\}"):
        generate(replace(CONFIG, batch_size=3), base, dataset, run, store)
    before = (folder / PREDICTIONS).read_bytes()
    save_run(run, base, store, seed=1)
    with pytest.raises(FingerprintError, match=r"'checkpoint': .*resume false"):
        generate(CONFIG, base, dataset, run, store)
    assert (folder / PREDICTIONS).read_bytes() == before
    again = generate(replace(CONFIG, resume=False), base, dataset, run, store)
    assert read_meta(again)["checkpoint"] != meta["checkpoint"]
    assert len(read_predictions(again)) == 48
    config = (
        run / "projectors" / "config.json"
    )  # starting over must not begin by losing what is there
    config.write_text(config.read_text().replace(meta["base"], "0" * 64))
    with pytest.raises(FingerprintError, match="base differs"):
        generate(replace(CONFIG, resume=False), base, dataset, run, store)
    assert len(read_predictions(again)) == 48


def test_a_model_of_shuffled_or_blank_videos_is_asked_about_such(
    whole: list[dict[str, Any]],
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
    tmp_path: Path,
) -> None:
    """Its answers are those of a model of plain videos on a store that holds them so."""
    preds = {}
    for how in ("shuffled", "blank"):
        switches = replace(RANDOM, video=how)
        run = save_run(tmp_path / how, base, store, switches=switches)
        seen = VideoReader(store, switches)
        path = create_store(tmp_path / f"{how}-store", SPEC)
        plan = extend_plan(path, [source_video(i, None) for i in store.ids], 8, {})
        rows = [
            VideoRow(i, "ok", temporal=seen[i].temporal.numpy(), spatial=seen[i].spatial.numpy())
            for i in (row.video_id for row in plan.shards()[0])
        ]
        write_shard(path, SPEC, plan, 0, rows)
        plain = save_run(tmp_path / f"{how}-plain", base, store)
        folders = (
            generate(CONFIG, base, dataset, run, store),
            generate(CONFIG, base, dataset, plain, FeatureStore(path)),
        )
        ours, wanted = ([row["pred"] for row in by_id(read_predictions(f))] for f in folders)
        assert ours == wanted
        assert read_meta(folders[0])["checkpoint"] != read_meta(folders[1])["checkpoint"]
        preds[how] = ours
    assert preds["shuffled"] != [row["pred"] for row in by_id(whole)]
    assert preds["blank"] != preds["shuffled"]


def test_answers_from_before_a_switch_are_those_of_its_default(
    run: Path, base: BaseConfig, dataset: DatasetConfig, store: FeatureStore
) -> None:
    """The digest of the checkpoint as it was told when there were five switches."""
    weights = file_sha256(run / "projectors" / "projectors.safetensors")
    names = ("features", "temporal_module", "extra_mlp", "spatial_window", "resampler")
    five = {name: getattr(RANDOM, name) for name in names}
    text = json.dumps([weights, five], sort_keys=True, separators=(",", ":"))
    meta = read_meta(generate(CONFIG, base, dataset, run, store))
    assert meta["checkpoint"] == sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], b"\0\0\0", *lines[1:]], "row 1"),
        (lambda lines: [lines[0], *lines], "is there twice"),
        (lambda lines: [*lines, b"{}"], "sample_id"),
    ],
)
def test_damaged_predictions_are_refused(
    run: Path,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
    change: Any,
    message: str,
) -> None:
    path = generate(CONFIG, base, dataset, run, store) / PREDICTIONS
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(line + b"\n" for line in change(lines)))
    with pytest.raises(RedVillmError, match=f"cannot read predictions.*{message}"):
        generate(CONFIG, base, dataset, run, store)


def test_what_cannot_be_asked(
    run: Path, base: BaseConfig, dataset: DatasetConfig, store: FeatureStore
) -> None:
    with pytest.raises(ConfigError, match=r"no such split.*got: tset.*did you mean test"):
        generate(replace(CONFIG, split="tset"), base, dataset, run, store)
    with pytest.raises(ConfigError, match="batch_size must be 1 or more"):
        replace(CONFIG, batch_size=0)
    with pytest.raises(ConfigError, match="temperature must be 0 or more"):
        replace(CONFIG, temperature=-0.1)
    with pytest.raises(ConfigError, match="a part cannot start over"):
        generate(replace(CONFIG, resume=False), base, dataset, run, store, part=(0, 2))


def test_meta_records_what_readers_want_and_does_not_compare_it(
    run: Path, base: BaseConfig, dataset: DatasetConfig, store: FeatureStore
) -> None:
    folder = generate(CONFIG, base, dataset, run, store)
    assert folder == run / "eval" / "tiny" / "test"
    meta = read_meta(folder)
    assert (meta["dataset"], meta["split"], meta["aspects"]) == ("tiny", "test", ["qa"])
    assert meta["type_names"] == ["what", "where"]
    assert {k: meta[k] for k in ("temperature", "top_k", "sampling_seed", "engine", "dtype")} == {
        "temperature": 0.0,
        "top_k": 50,
        "sampling_seed": 0,
        "engine": "torch",
        "dtype": "float64",
    }
    assert meta["seconds"] > 0
    other = replace(dataset, type_names=(), splits=dict(dataset.splits))
    before = (folder / PREDICTIONS).read_bytes()
    generate(CONFIG, base, other, run, store)
    assert (folder / PREDICTIONS).read_bytes() == before


def test_both_wordings_are_asked_and_each_is_answered_as_if_alone(
    run: Path, base: BaseConfig, dataset: DatasetConfig, store: FeatureStore, tmp_path: Path
) -> None:
    config = replace(CONFIG, split="pairs")
    rows = by_id(read_predictions(generate(config, base, dataset, run, store)))
    assert len(rows) == 16
    assert {row["lost"] for row in rows if row["pred"] is None} == {"truncated"}
    assert all((row["pred"] is None) == (row["pred2"] is None) for row in rows)
    told = [row for row in rows if row["pred"] is not None]
    assert any(row["pred"] != row["pred2"] for row in told)
    samples = [
        QASample(f"{row['sample_id']}/{n}", row["video_id"], text, "red")
        for row in told
        for n, text in enumerate((row["question"], row["question2"]))
    ]
    write_qa_pairs(tmp_path / "q.json", tmp_path / "a.json", samples)
    split = SplitConfig("qa-pairs", tmp_path / "q.json", tmp_path / "a.json")
    alone = DatasetConfig("alone", tmp_path, {"test": split})
    single = read_predictions(generate(replace(CONFIG, batch_size=1), base, alone, run, store))
    wanted = {
        row["sample_id"]: (row["pred"], row["finish_reason"], row["num_tokens"]) for row in single
    }
    for row in told:
        keys = "pred", "finish_reason", "num_tokens"
        assert tuple(row[k] for k in keys) == wanted[f"{row['sample_id']}/0"]
        assert tuple(row[f"{k}2"] for k in keys) == wanted[f"{row['sample_id']}/1"]


def test_what_is_drawn_depends_on_seed_and_question_alone(
    run: Path, base: BaseConfig, dataset: DatasetConfig, store: FeatureStore
) -> None:
    def texts(**change: Any) -> list[dict[str, Any]]:
        config = replace(CONFIG, temperature=5.0, resume=False, **change)
        return by_id(read_predictions(generate(config, base, dataset, run, store)))

    first = texts()
    assert texts(batch_size=1) == texts(batch_size=16) == first
    assert texts(sampling_seed=1) != first
    pairs = [row for row in texts(split="pairs", sampling_seed=3) if row["pred"] is not None]
    assert any(row["pred"] != row["pred2"] for row in pairs)
    greedy = [row["pred"] for row in texts(top_k=1)]
    config = replace(CONFIG, resume=False)
    assert greedy == [
        row["pred"] for row in by_id(read_predictions(generate(config, base, dataset, run, store)))
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_of_any_number_are_the_whole(
    count: int,
    whole: list[dict[str, Any]],
    run: Path,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
) -> None:
    folders = {generate(CONFIG, base, dataset, run, store, (i, count)) for i in range(count)}
    [folder] = folders
    parts = {path.name: path for path in folder.glob("predictions.*-of-*.jsonl")}
    assert sorted(parts) == [f"predictions.{i}-of-{count}.jsonl" for i in range(count)]
    assert all(path.read_bytes().count(b"\n") > 10 for path in parts.values())
    merge_parts(folder, seconds=1.5)
    assert read_predictions(folder) == by_id(whole)
    assert read_meta(folder)["seconds"] == 1.5
    assert {path.name for path in folder.glob("[!.]*")} == {PREDICTIONS, META}


def test_what_killed_workers_left_is_used_by_another_number_of_workers(
    whole: list[dict[str, Any]],
    run: Path,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = generate(CONFIG, base, dataset, run, store, (1, 3))
    left = folder / "predictions.1-of-3.jsonl"
    left.write_bytes(left.read_bytes()[:-30])
    kept = left.read_bytes().count(b"\n")
    (folder / PREDICTIONS).write_bytes(b"")
    for i in range(2):
        generate(CONFIG, base, dataset, run, store, (i, 2))
    lines = {path.name: path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl")}
    assert lines["predictions.1-of-3.jsonl"] == kept
    assert sum(lines.values()) == 48, "nothing is answered twice"
    monkeypatch.setattr("eval.generate.load_image_llm", lambda *_: pytest.fail("loaded again"))
    generate(CONFIG, base, dataset, run, store)  # one alone unites what others left
    assert read_predictions(folder) == by_id(whole)
    assert not list(folder.glob("predictions.*-of-*"))


def test_two_different_answers_to_one_question_are_refused_and_none_is_lost(
    run: Path, base: BaseConfig, dataset: DatasetConfig, store: FeatureStore
) -> None:
    folder = generate(CONFIG, base, dataset, run, store)
    row = next(row for row in read_predictions(folder) if row["pred"])
    part = folder / "predictions.0-of-2.jsonl"
    part.write_text(json.dumps(row) + "\n")
    merge_parts(folder)  # the same row twice is one row
    assert len(read_predictions(folder)) == 48
    part.write_text(json.dumps(row | {"pred": "another"}) + "\n")
    before = (folder / PREDICTIONS).read_bytes()
    with pytest.raises(RedVillmError, match=rf"two answers.*{row['sample_id']}.*'another'"):
        merge_parts(folder)
    with pytest.raises(RedVillmError, match="two answers"):
        generate(CONFIG, base, dataset, run, store)
    assert (folder / PREDICTIONS).read_bytes() == before
    assert part.exists()
    start_over(folder)
    assert not list(folder.glob("predictions*.jsonl"))
