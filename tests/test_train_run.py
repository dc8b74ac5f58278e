from __future__ import annotations

import csv
import json
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_training import SPEC, make_data, tiny_base

from features.annotations import QASample, annotations_digest, load_annotations
from features.checkpoint_files import tensors_digest
from features.config import BaseConfig, Budget, DatasetConfig
from features.errors import CheckpointError, ConfigError, FingerprintError, RedVillmError
from features.places import StorePath
from features.store import FeatureStore, create_store
from train import fit as fit_module
from train import job as job_module
from train.checkpoint import load_projectors, read_projector_config
from train.flops import count_flops_model
from train.image_llm import load_image_llm
from train.meter import LoaderClock, Speed, StepMeter
from train.module import ProjectorTraining
from train.options import TrainConfig, check_options, pick_budget
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.questions import QuestionDataset, Source
from train.run import train
from train.sources import TrainingData, open_data, samples_of, share_of
from train.video_llm import VideoLLM, trainable
from train.videos import VideoReader


@pytest.fixture
def base(mini_dir: Path) -> BaseConfig:
    return tiny_base(mini_dir)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[StorePath, DatasetConfig]:
    made = make_data(tmp_path_factory.mktemp("data"))
    return made.store, made.dataset


def test_a_run_folder_tells_everything(tmp_path: Path, base, data, capsys) -> None:
    store, dataset = data
    config = TrainConfig(runs=tmp_path, device="cpu")
    frozen = tensors_digest(load_image_llm(base).llm.state_dict())
    kept = []
    original = fit_module.load_image_llm

    def load_and_keep(*args):
        kept.append(original(*args))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "load_image_llm", load_and_keep)
        run = train(config, base, TrainingData(dataset, store))
    assert tensors_digest(kept[0].llm.state_dict()) == frozen  # bit by bit
    assert run == tmp_path / "demo" / "red-villm" / "seed-0"
    said = capsys.readouterr().out
    assert "lost 4 of 42 training questions: not-extracted 2, timeout 2" in said
    assert "projector.temporal" in said

    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["steps"] == 38 * 2 // 8
    assert metrics["questions"] == {
        "asked": 42,
        "used": 38,
        "lost": {"timeout": 2, "not-extracted": 2},
        "truncated": 0,
        "dropped": 4,
    }
    assert metrics["loss"]["last"] < metrics["loss"]["first"]
    rows = list(csv.DictReader((run / "logs" / "metrics.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == pytest.approx(
        [loss for _, loss in metrics["loss"]["curve"]], rel=1e-5
    )
    assert float(rows[0]["lr"]) == 0  # a step of warm-up
    assert float(rows[1]["lr"]) == pytest.approx(1e-3)
    assert float(rows[0]["grad_norm"]) > 0
    assert list((run / "tensorboard").glob("events*"))
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["lr"] == 1e-3
    assert not (tmp_path / "lightning_logs").exists()
    assert not Path("lightning_logs").exists()

    facts = read_projector_config(run / "projectors")
    assert (facts.steps, facts.store_digest) == (9, metrics["digests"]["store"])
    tensors = load_file(run / "projectors" / "projectors.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"alignment", "temporal"}
    image_llm = load_image_llm(base)
    start = dict(image_llm.aligner.named_parameters())
    for name, tensor in tensors.items():  # everything trainable has moved
        assert not torch.equal(tensor, start[name.split(".", 1)[1]])
    load_projectors(run / "projectors", image_llm, SPEC)

    stamp = (run / "metrics.json").stat().st_mtime_ns
    assert train(config, base, TrainingData(dataset, store)) == run
    assert "reused" in capsys.readouterr().out
    assert (run / "metrics.json").stat().st_mtime_ns == stamp
    train(replace(config, lr=1e-4), base, TrainingData(dataset, store))
    assert "train changed" in capsys.readouterr().out
    assert (run.parent / "replaced" / "seed-0-0" / "metrics.json").stat().st_mtime_ns == stamp


def projectors(run: Path) -> bytes:
    return (run / "projectors" / "projectors.safetensors").read_bytes()


def test_same_seed_same_bits_whatever_the_workers(tmp_path: Path, base, data) -> None:
    store, dataset = data
    runs = {}
    for name, changes in {
        "one": {},
        "two": {"num_workers": 2, "cache_bytes": 0},
        "other": {"seed": 1},
        "shuffled": {"switches": ProjectorSwitches(video="shuffled")},
        "shuffled, two": {"switches": ProjectorSwitches(video="shuffled"), "num_workers": 2},
    }.items():
        config = TrainConfig(runs=tmp_path / name, device="cpu", **changes)
        runs[name] = projectors(train(config, base, TrainingData(dataset, store)))
    assert runs["one"] == runs["two"]
    assert runs["one"] != runs["other"]
    assert runs["one"] != runs["shuffled"] == runs["shuffled, two"]


def test_an_unfinished_run_is_begun_again(tmp_path: Path, base, data, monkeypatch) -> None:
    store, dataset = data
    config = TrainConfig(runs=tmp_path, device="cpu")

    def fail(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "loss_summary", fail)
        with pytest.raises(KeyboardInterrupt):
            train(config, base, TrainingData(dataset, store))
    run = train(config, base, TrainingData(dataset, store))
    assert len(list((run / "tensorboard").glob("events*"))) == 1
    assert (run / "metrics.json").is_file()


def test_zero_epochs_save_the_base_as_it_is(tmp_path: Path, base, data) -> None:
    store, dataset = data
    config = TrainConfig(experiment="untuned", runs=tmp_path, budget="none", device="cpu")
    run = train(config, base, TrainingData(dataset, store))
    image_llm = load_image_llm(base)
    projector = load_projectors(run / "projectors", image_llm, SPEC)
    assert read_projector_config(run / "projectors").steps == 0
    for name, parameter in image_llm.aligner.named_parameters():
        assert torch.equal(projector.get_parameter(f"alignment.{name}"), parameter)
        assert torch.equal(projector.get_parameter(f"temporal.{name}"), parameter)


def test_a_training_that_diverges_is_an_error_not_a_result(tmp_path: Path, base, data) -> None:
    store, dataset = data
    with pytest.raises(RedVillmError, match=r"diverged.*step \d of 9.*lower lr"):
        train(TrainConfig(runs=tmp_path, device="cpu", lr=1e30), base, TrainingData(dataset, store))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_cannot_be_trained_is_refused(tmp_path: Path, base, data) -> None:
    store, dataset = data
    config = TrainConfig(runs=tmp_path, device="cpu")
    with pytest.raises(ConfigError, match=r"no such training budget.*did you mean default"):
        train(replace(config, budget="defalt"), base, TrainingData(dataset, store))
    with pytest.raises(ConfigError, match="at least batch_size = 500"):
        train(replace(config, batch_size=500), base, TrainingData(dataset, store))
    with pytest.raises(ConfigError, match="a split named train"):
        train(config, base, TrainingData(replace(dataset, splits={}), store))
    with pytest.raises(FingerprintError, match=r"layer differs.*store: -2.*base mini: -1"):
        train(config, replace(base, layer=-1), TrainingData(dataset, store))
    elsewhere = create_store(tmp_path / "store", replace(SPEC, weights_digest="0" * 64))
    with pytest.raises(FingerprintError, match="weights_digest differs"):
        train(config, base, TrainingData(dataset, elsewhere))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no such device"):
            train(replace(config, device="cuda"), base, TrainingData(dataset, store))
    budget = pick_budget(replace(config, lr=0.5, epochs=7), base)
    assert budget == Budget(0.5, 7, 8)


def test_lightning_checkpoints_hold_what_is_trained_alone(tmp_path: Path, base) -> None:
    image_llm = load_image_llm(base)

    def fresh(switches: ProjectorSwitches) -> ProjectorTraining:
        projector = VideoProjector(image_llm.aligner, image_llm.hidden_size, switches)
        model = VideoLLM.of(projector, image_llm)
        flops = count_flops_model(image_llm.llm)
        meter = StepMeter(projector, flops, Speed(1e9), LoaderClock())
        return ProjectorTraining(model, Budget(), 10, meter)

    module = fresh(ProjectorSwitches())
    with torch.no_grad():
        module.model.projector.temporal.linear_1.bias += 1
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "c.ckpt", weights_only=True)
    checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == set(trainable(module))
    again = fresh(ProjectorSwitches())
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"], strict=again.strict_loading)
    bias = again.model.projector.temporal.linear_1.bias
    assert torch.equal(bias, module.model.projector.temporal.linear_1.bias)
    with pytest.raises(CheckpointError, match="alignment_mlp"):
        fresh(ProjectorSwitches(extra_mlp="alignment")).on_load_checkpoint(checkpoint)
    del checkpoint["state_dict"]["model.projector.temporal.linear_1.bias"]
    with pytest.raises(CheckpointError, match=r"temporal\.linear_1\.bias"):
        again.on_load_checkpoint(checkpoint)


def test_several_datasets_train_together(tmp_path: Path, base) -> None:
    """Each question finds its own dataset's video, though both have one of that name."""
    data = [make_data(tmp_path / name, name, seed) for seed, name in enumerate(("one", "two"))]
    config = TrainConfig(runs=tmp_path / "runs", device="cpu", epochs=1, questions_per_row=2)
    run = train(config, base, *data)
    assert run == tmp_path / "runs" / "one+two" / "red-villm" / "seed-0"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["questions"]["used"] == 76
    facts = read_projector_config(run / "projectors")
    assert facts.store_digest not in {FeatureStore.open(one.store).content_digest for one in data}
    opened = open_data(base, data)
    sources = [
        Source(samples, VideoReader(one.features))
        for one, samples in zip(opened, samples_of(opened, "train"), strict=True)
    ]
    image_llm = load_image_llm(base)
    prompter = Prompter.of(base, image_llm)
    asked = QuestionDataset(sources, prompter, lambda t, n: t + n, 8, 2048)
    for index, sample in enumerate(asked.samples):
        number = ("one", "two").index(sample.sample_id.split("/")[0])
        stored = opened[number].features[sample.video_id]
        assert np.array_equal(asked[(index,)].video.spatial.numpy(), stored.spatial)
    assert len(set(asked.videos)) == 2 * 19
    with pytest.raises(ConfigError, match="given twice"):
        train(config, base, data[0], data[0])
    other = create_store(tmp_path / "other", replace(SPEC, num_frames=4))
    with pytest.raises(FingerprintError, match="differ in how their features were made"):
        train(config, base, data[0], TrainingData(data[1].dataset, other))


def test_alternating_order_puts_the_video_behind_even_rows(tmp_path: Path, base, data) -> None:
    store, dataset = data
    seen = {}
    original = job_module.QuestionDataset

    class Kept(original):
        def __init__(self, *args):
            super().__init__(*args)
            seen["questions"] = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "QuestionDataset", Kept)
        config = TrainConfig(runs=tmp_path, device="cpu", max_steps=1, video_order="alternating")
        train(config, base, TrainingData(dataset, store))
    asked, image = seen["questions"], load_image_llm(base).image_token_id
    for index, sample in enumerate(asked.samples):
        ids = asked[(index,)].prompt.input_ids.tolist()
        row = int(sample.sample_id.split(":")[1])
        assert (ids.index(image) > 4) == (row % 2 == 0)  # behind the question, or <s> USER :


@pytest.mark.parametrize(
    ("trained", "frozen"), [("temporal", "alignment"), ("alignment", "temporal")]
)
def test_one_module_is_trained_and_the_other_stays_as_it_is_in_the_base(
    tmp_path: Path, base, data, trained: str, frozen: str
) -> None:
    store, dataset = data
    switches = ProjectorSwitches(trained=trained)
    how = {"runs": tmp_path, "device": "cpu", "clip_norm": 0.1, "val_every": 4}
    run = train(TrainConfig(switches=switches, **how), base, TrainingData(dataset, store))
    image_llm = load_image_llm(base)
    projector = load_projectors(run / "projectors", image_llm, SPEC)
    start = dict(image_llm.aligner.named_parameters())
    assert len(list(projector.parameters())) == 2 * len(start)
    for name, tensor in load_file(run / "projectors" / "projectors.safetensors").items():
        module, local = name.split(".", 1)
        assert torch.equal(tensor, start[local]) == (module == frozen), name
        assert torch.equal(projector.get_parameter(name), tensor)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["distance"].keys() == {f"distance/{trained}"}
    size = sum(p.numel() for p in start.values())
    llm = sum(p.numel() for p in image_llm.llm.parameters())
    assert metrics["parameters"] == {"trained": size, "frozen": llm + size}
    with (run / "logs" / "metrics.csv").open() as file:
        columns = set(csv.DictReader(file).fieldnames or ())
    assert {c for c in columns if c.startswith("grad_norm/")} == {f"grad_norm/{trained}"}


def test_smaller_shares_of_the_videos_are_part_of_larger_ones() -> None:
    samples = [QASample(f"q{i}", f"v{i % 30}", "what", "red") for i in range(75)]
    kept = {}
    for share, count in {0.01: 1, 0.1: 3, 0.11: 4, 0.5: 15, 0.51: 16, 1.0: 30}.items():
        found = share_of(samples, share)
        kept[share] = {sample.video_id for sample in found}
        assert len(kept[share]) == count
        assert found == [s for s in samples if s.video_id in kept[share]]  # all of a video's
        assert share_of(samples[::-1], share) == found[::-1]
    shares = sorted(kept)
    assert all(kept[a] < kept[b] for a, b in pairwise(shares))
    first = min(range(30), key=lambda i: sha256(f"v{i}".encode()).hexdigest())
    assert kept[0.01] == {f"v{first}"}


def test_a_share_of_the_videos_is_counted_and_recorded(tmp_path: Path, base, data) -> None:
    store, dataset = data
    config = TrainConfig(runs=tmp_path, device="cpu", data=0.25, val_every=3)
    validated = []
    with pytest.MonkeyPatch.context() as patch:
        original = job_module.QuestionDataset
        patch.setattr(
            job_module,
            "QuestionDataset",
            lambda sources, *args: (
                validated.append(len(sources[0].samples)) or original(sources, *args)
            ),
        )
        run = train(config, base, TrainingData(dataset, store))
    assert validated == [12, 10]  # 6 of 21 videos; validation questions are not cut
    metrics = json.loads((run / "metrics.json").read_text())
    questions = metrics["questions"]
    assert questions["asked"] == 12 == questions["used"] + sum(questions["lost"].values())
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["data"] == 0.25
    asked = share_of(load_annotations(dataset.splits["train"]), 0.25)
    assert read_projector_config(run / "projectors").questions == annotations_digest(asked)
    for share in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"no such share.*data"):
            check_options(replace(config, data=share))


def test_a_run_from_before_a_setting_counts_as_one_with_its_default(
    tmp_path: Path, base, data, capsys
) -> None:
    store, dataset = data
    config = TrainConfig(runs=tmp_path, device="cpu", max_steps=1)
    run = train(config, base, TrainingData(dataset, store))
    record = yaml.safe_load((run / "config.yaml").read_text())
    del record["train"]["data"], record["train"]["switches"]["video"]
    del record["train"]["switches"]["trained"]
    (run / "config.yaml").write_text(yaml.safe_dump(record))
    train(config, base, TrainingData(dataset, store))
    assert "reused" in capsys.readouterr().out
    train(
        replace(config, switches=ProjectorSwitches(video="blank")),
        base,
        TrainingData(dataset, store),
    )
    assert "train changed" in capsys.readouterr().out
    (run / "config.yaml").write_text(yaml.safe_dump(record))
    train(replace(config, data=0.9), base, TrainingData(dataset, store))
    assert "train changed" in capsys.readouterr().out
    (run / "config.yaml").write_text("train: 3")
    train(config, base, TrainingData(dataset, store))
    assert "train, device" in capsys.readouterr().out
