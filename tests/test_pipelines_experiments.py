"""Recipes of experiments: each is whole, all stages read it alike, the user has the last word."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from features.config import DatasetConfig
from features.describe import load_base
from features.errors import ConfigError
from features.recipes import RECIPES, load_recipe
from pipelines.__main__ import main
from pipelines.experiment import load_experiment, read_recipes
from pipelines.selection import Selection
from train.options import TrainConfig

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = RECIPES / "experiments"
load = cache(load_experiment)
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_whole(name: str) -> None:
    experiment = load(name)
    where, how = experiment.part(Selection), experiment.part(TrainConfig)
    assert how.experiment == name
    assert load_base(where.base).budgets[how.budget]
    assert {"train", "test"} <= load_recipe("datasets", where.dataset, DatasetConfig).splits.keys()
    text = (FOLDER / f"{name}.yaml").read_text()
    head = text[: text.index("\nexperiment:")].splitlines()
    assert all(line.startswith("# ") and len(line) <= 104 for line in head)
    assert f"EXPERIMENT={name} " in text.replace("\n", " ")
    assert "make " in text
    assert "# Expect" in text


def costs() -> list[tuple[str, int, int, int]]:
    """(recipe, hours with activation checkpointing, without, video tokens) as the comments say."""
    claim = re.compile(r"about (\d+) A100-hours \((\d+) without.*: (\d+) video tokens")
    found = {name: claim.search((FOLDER / f"{name}.yaml").read_text()) for name in NAMES}
    return [(name, *map(int, match.groups())) for name, match in found.items() if match]


def test_the_papers_recipes_answer_in_float16_and_no_other() -> None:
    assert [name for name in NAMES if load(name).dtype == "float16"] == [
        name for name in NAMES if "-7b" in name
    ]


def test_every_7b_recipe_says_its_cost() -> None:
    assert [name for name, *_ in costs()] == [name for name in NAMES if "-7b" in name]


@pytest.mark.parametrize(("name", "on", "off", "tokens"), costs())
def test_the_cost_follows_from_the_recipe(name: str, on: int, off: int, tokens: int) -> None:
    experiment = load(name)
    switches, qwen = experiment.switches, experiment.base == "qwen-vl-chat"
    frames = experiment.num_frames or 100
    patches = (1024 if qwen else 256) // switches.spatial_window**2
    if qwen and switches.resampler == "resampler":
        frames = patches = 256
    seen = {"both": frames + patches, "spatial_features": patches, "temporal_features": frames}
    assert tokens == seen[switches.features]
    flops = 100_010 * 3 * (tokens + 90) * (7.7e9 if qwen else 6.6e9)
    hours = flops / (0.4 * 312e12) / 3600
    assert (on, off) == (round(6 * hours), round(4 * hours))


def command(*words: str, **environment: str) -> list[str]:
    """The command that make would run, without the set-up before it."""
    clean = {k: v for k, v in os.environ.items() if k not in ("BASE", "DATASET", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "-n", *words],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=clean | environment,
        check=True,
    )
    text = done.stdout.replace("\\\n", " ")
    return shlex.split(next(line for line in text.splitlines() if "-m pipelines" in line))[3:]


@pytest.mark.parametrize("stage", ["extract", "train", "eval", "reeval", "report", "inspect"])
def test_make_leaves_base_and_dataset_to_the_recipe_unless_told(stage: str) -> None:
    silent = command(stage, "EXPERIMENT=red-villm-qwen-vl-7b")
    assert silent[:3] == [
        stage,
        "--config",
        "pipelines/recipes/experiments/red-villm-qwen-vl-7b.yaml",
    ]
    assert not {"--base", "--dataset"} & set(silent)
    told = command(stage, "BASE=qwen-vl", DATASET="vcgbench")
    assert told[told.index("--base") + 1] == "qwen-vl"
    assert told[told.index("--dataset") + 1] == "vcgbench"


def test_make_says_which_runs_are_evaluated() -> None:
    asked = command("eval", "SEED=3")
    assert asked[asked.index("--seed") + 1] == "3"
    assert "--checkpoint" not in asked
    assert not {"--checkpoints", "--benchmarks"} & set(command("reeval"))
    several = command("reeval", "CHECKPOINTS=a/* b", "BENCHMARKS=vcgbench msvd-qa:val")
    assert several[several.index("--checkpoints") + 1] == "a/* b"
    assert several[several.index("--benchmarks") + 1] == "vcgbench msvd-qa:val"
    chosen = command("eval", "CHECKPOINT=runs/demo/a*/seed-0")
    assert chosen[chosen.index("--checkpoint") + 1] == "runs/demo/a*/seed-0"


def test_a_stage_that_does_not_train_takes_the_selection_alone(tmp_path: Path) -> None:
    recipe, own = tmp_path / "mine.yaml", tmp_path / "own.yaml"
    recipe.write_text("experiment: mine\nbase: qwen-vl\nbatch_size: 4\nnum_frames: 50\n")
    own.write_text("batch_size: 4\n")
    options = {"base", "dataset", "num_frames", "batch_size", "runs"}
    given, kept = read_recipes(["--config", str(recipe), "--base", "mini"], options)[1:3]
    assert kept == "--base", "what the user says comes behind the recipe"
    assert yaml.safe_load(given) == {"base": "qwen-vl", "num_frames": 50}
    again = read_recipes([f"--config={recipe}"], options | {"experiment"})
    assert yaml.safe_load(again[1]) == yaml.safe_load(given) | {"experiment": "mine"}
    assert read_recipes(["--config", str(own)], options) == ["--config", str(own)]
    assert read_recipes(["--config", str(recipe)], options | {"switches"})[1] == str(recipe)
    answers = [*options, "dtype", "temperature"]
    recipe.write_text(recipe.read_text() + "dtype: float16\n")
    told = yaml.safe_load(read_recipes(["--config", str(recipe)], answers)[1])
    assert told == yaml.safe_load(given) | {"dtype": "float16"}, "answering alone is told its dtype"
    other = [*options, "dtype"]
    assert yaml.safe_load(read_recipes(["--config", str(recipe)], other)[1]) == yaml.safe_load(
        given
    )
    trains = yaml.safe_load(read_recipes(["--config", str(recipe)], [*other, "switches"])[1])
    assert trains == yaml.safe_load(given) | {"experiment": "mine", "batch_size": 4}
    named = read_recipes(["--config", "smoke"], options | {"switches"})
    assert named[1] == str(FOLDER / "smoke.yaml")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("bsae: qwen-vl", "did you mean base"),
        ("switches: {temporal_modul: copy}", "did you mean temporal_module"),
    ],
)
def test_an_unknown_key_is_named_by_every_stage(text: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"experiment: mine\n{text}\n")
    with pytest.raises(ConfigError, match=hint):
        load_experiment(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match=hint):
        read_recipes(["--config", str(tmp_path / "mine.yaml")], {"base"})


def test_an_unknown_experiment_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    path = "pipelines/recipes/experiments/red-vilm-llava-7b.yaml"
    with pytest.raises(ConfigError, match="did you mean red-villm-llava-7b"):
        read_recipes(["--config", path], {"base", "switches"})
    assert main(["inspect", "--config", path]) == 2
    assert "did you mean red-villm-llava-7b" in capsys.readouterr().err


RECIPE = """\
# make extract train eval CONFIG=mine.yaml
experiment: mine
base: base.yaml
dataset: clips.yaml
num_frames: 4
prompt: "USER: {question} <image> ASSISTANT:"
max_steps: 2
batch_size: 4
epochs: 1
switches: {features: both, temporal_module: copy}
"""


def test_one_recipe_takes_a_video_from_file_to_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mini_dir: Path, clip
) -> None:
    """Base, dataset, frames and prompt are the recipe's in all three stages."""
    monkeypatch.chdir(tmp_path)
    clips = [clip(tmp_path / "clips" / f"v{i}.mp4", num_frames=8, seed=i) for i in range(4)]
    rows = [
        {"video": p.name, "question": f"what colour is the {s}", "answer": "red", "split": split}
        for p in clips
        for s in ("circle", "square")
        for split in ("train", "test")
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = {n: {"format": "jsonl", "questions": "qa.jsonl", "part": n} for n in ("train", "test")}
    dataset = {"name": "clips", "videos": "clips", "splits": splits}
    (tmp_path / "clips.yaml").write_text(yaml.safe_dump(dataset))
    base = yaml.safe_load((RECIPES / "bases" / "mini.yaml").read_text())
    base |= {"name": "tiny", "checkpoint": str(mini_dir)}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "mine.yaml").write_text(RECIPE)

    assert main(["extract", "--config", "mine.yaml", "--thumbs", "0"]) == 0
    (store,) = (tmp_path / "data" / "features" / "clips").iterdir()
    assert store.name.startswith("tiny-t4-")
    assert main(["train", "--config", "mine.yaml"]) == 0
    run = tmp_path / "runs" / "clips" / "mine" / "seed-0"
    assert json.loads((run / "metrics.json").read_text())["steps"] == 2
    record = yaml.safe_load((run / "config.yaml").read_text())
    assert record["base"]["name"] == "tiny"
    assert record["base"]["prompt"] == "USER: {question} <image> ASSISTANT:"
    assert main(["eval", "--config", "mine.yaml", "--max_new_tokens", "2"]) == 0
    assert (
        len((run / "eval" / "clips" / "test" / "predictions.jsonl").read_text().splitlines()) == 8
    )
    # the user's own word counts: another base has no features there
    assert main(["train", "--config", "mine.yaml", "--base", "mini"]) == 2
