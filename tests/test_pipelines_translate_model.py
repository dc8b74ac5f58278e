"""A sequence-to-sequence model of transformers as translator: a tiny MarianMT, made here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from transformers import (
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
)

from features.checkpoint_files import resolve_checkpoint
from features.errors import CheckpointError, ConfigError
from pipelines.__main__ import main
from pipelines.translate.engines import Ask
from pipelines.translate.lines import lines_path, read_lines
from pipelines.translate.model_engine import ModelEngine
from pipelines.translate.options import TranslatorConfig, make_translator

PAIRS = {
    "what is red": "red is what",
    "the man sleeps": "sleeps man",
    "a cat jumps": "jumps cat",
    "over two dogs": "dogs two over",
    "call [1] now": "now [1] call",
    ">>zh<< what is red": "what red",
}
"""All that the model knows."""
LONGEST = 40
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a MarianMT with random weights and the tokenizer that such models have."""
    folder = tmp_path_factory.mktemp("marian")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join([*PAIRS, *PAIRS.values()] * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "source"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.model"))
    names = ["</s>", "<unk>", *(pieces.id_to_piece(n) for n in range(3, pieces.get_piece_size()))]
    names.append("<pad>")
    (folder / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    pad = len(names) - 1
    source = str(folder / "source.model")
    tokenizer = MarianTokenizer(source, source, str(folder / "vocab.json"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"d_model": 32, "dropout": 0.0, "max_position_embeddings": LONGEST}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": 1, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 32}
    config = MarianConfig(
        vocab_size=pad + 1,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
        **sizes,
    )
    model = learn(MarianMTModel(config), tokenizer)
    model.save_pretrained(folder)
    return folder


def learn(model: Any, tokenizer: Any) -> Any:
    """Every pair by heart."""
    sources = tokenizer(list(PAIRS), return_tensors="pt", padding=True)
    labels = tokenizer(list(PAIRS.values()), return_tensors="pt", padding=True)["input_ids"]
    labels[labels == model.config.pad_token_id] = -100
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(120):
        optimizer.zero_grad()
        loss = model(**sources, labels=labels).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    return model.eval()


def engine(folder: Path, **more: Any) -> ModelEngine:
    config = TranslatorConfig("model", str(folder), beams=2, max_tokens=20, device="cpu", **more)
    return ModelEngine(make_translator(config, "en-zh"))


def asks(*texts: str) -> list[Ask]:
    return [Ask(f"key {n}", text, "") for n, text in enumerate(texts)]


def test_each_line_is_what_the_model_makes_of_it_alone_whatever_is_in_its_batch(
    marian: Path,
) -> None:
    sent: list[str] = []

    def before(keys: Sequence[str]) -> list[str]:
        sent.extend(keys)
        return list(keys)

    texts = asks("what is red", "the man sleeps", "a cat jumps\n\nover two dogs", "call {x} now")
    found = dict(engine(marian, batch=3).ask(texts, before))
    assert sorted(sent) == [ask.key for ask in texts]
    assert [(found[key].outcome, found[key].text) for key in sorted(found)] == [
        ("ok", "red is what"),
        ("ok", "sleeps man"),
        ("ok", "jumps cat\n\ndogs two over"),
        ("ok", "now [1] call"),
    ]
    prefixed = dict(engine(marian, prefix=">>zh<< ").ask(texts[:1], before))
    assert prefixed["key 0"].text == "what red"


def test_a_text_that_does_not_fit_the_model_is_a_failure_of_its_own(marian: Path) -> None:
    found = dict(engine(marian).ask(asks("what is red", "a cat " * LONGEST), list))
    assert found["key 0"].text == "red is what"
    assert (found["key 1"].outcome, found["key 1"].reason) == (
        "api_failure",
        "too long for the model",
    )


def test_the_command_loads_it_in_the_courier_and_names_it_by_its_weights(
    marian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"q": "what is red", "a": "the man sleeps", "video_id": "v_1"},
        {"q": "a cat jumps", "a": "the man sleeps", "video_id": "v_1"},
    ]
    Path("in.json").write_text(json.dumps(rows))
    recipe = f"kind: model\nmodel: {marian}\nbeams: 2\nmax_tokens: 20\ndevice: cpu\n"
    Path("t.yaml").write_text(recipe)
    command = ["translate", "in.json", "--target", "out.json", "--translator", "t.yaml"]
    assert main(command) == 0
    lines = read_lines(lines_path(Path("out.json")))
    assert [line.target for line in lines] == [
        "red is what",
        "sleeps man",
        "jumps cat",
        "sleeps man",
    ]
    assert len({line.key for line in lines}) == 3, "a model that sees no context answers once"
    (label,) = {line.engine for line in lines}
    assert label.startswith(f"{marian.name}@")


def test_pickled_weights_and_glossaries_are_refused(
    marian: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in marian.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    weights = MarianMTModel.from_pretrained(marian).state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="in safetensors"):
        engine(folder)
    with pytest.raises(ConfigError, match="cannot follow a glossary"):
        make_translator(TranslatorConfig("model", str(marian)), "en-zh", tmp_path / "terms.tsv")


def test_what_a_marian_needs_is_fetched_and_without_it_the_error_is_clear(
    marian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, allow_patterns: list[str]) -> str:
        for file in marian.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                (tmp_path / file.name).write_bytes(file.read_bytes())
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    folder = resolve_checkpoint("somebody/marian")
    assert {"source.spm", "target.spm", "vocab.json"} <= {file.name for file in folder.iterdir()}
    found = dict(engine(folder).ask(asks("what is red"), list))
    assert found["key 0"].text == "red is what"
    (folder / "source.spm").unlink()
    with pytest.raises(CheckpointError, match="cannot load"):
        engine(folder)


def test_a_model_that_must_be_told_its_language_is_refused(marian: Path, tmp_path: Path) -> None:
    sizes = {f"{part}_layers": 1 for part in ("encoder", "decoder")}
    heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    config = MBartConfig(vocab_size=40, d_model=8, **sizes, **heads)
    MBartForConditionalGeneration(config).save_pretrained(tmp_path)
    for name in ("source.spm", "target.spm", "vocab.json"):
        (tmp_path / name).write_bytes((marian / name).read_bytes())
    told = {"tokenizer_class": "MarianTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="must be told its language"):
        engine(tmp_path)
