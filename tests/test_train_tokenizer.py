"""The original LLaVA ships sentencepiece's `tokenizer.model`: read through stock libraries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sentencepiece
import tiny_bases

from features.config import BaseConfig
from features.errors import CheckpointError
from train.image_llm import load_image_llm, open_base
from train.llava import load_tokenizer
from train.prompt import Prompter

CORPUS = ["USER: what colour is the circle ASSISTANT: red", "USER: what moves ASSISTANT: a cross"]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def write_sentencepiece(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """tokenizer.model and its config as the published folders have them."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": False,
        "add_bos_token": True,
        **SPECIAL,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


def test_ids_equal_sentencepieces_own(tmp_path: Path) -> None:
    tiny_bases.write_clip(tmp_path / "clip")
    folder = tmp_path / "llava"
    tiny_bases.write_llava(folder, clip_folder=tmp_path / "clip")
    for file in folder.glob("*token*"):
        file.unlink()
    reference = write_sentencepiece(folder)
    base = BaseConfig("llava", str(folder), prompt="llava-1.5")
    tokenizer = load_tokenizer(open_base(base))
    for text in [*CORPUS, "twice  blank", "Grüße, 世界 🙂", "\nline"]:
        ids = tokenizer(text)["input_ids"]
        assert ids == [reference.bos_id(), *reference.encode(text)]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    image_llm = load_image_llm(base)
    assert image_llm.stop_ids == (reference.eos_id(),)
    ids = Prompter.of(base, image_llm).render("what moves", "a cross", 2).input_ids.tolist()
    left, right = reference.encode("USER: "), reference.encode("\nwhat moves ASSISTANT: a cross")
    assert ids == [reference.bos_id(), *left, -200, -200, *right, reference.eos_id()]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_bases.write_clip(tmp_path / "clip")
    tiny_bases.write_llava(tmp_path / "llava", clip_folder=tmp_path / "clip")
    for file in (tmp_path / "llava").glob("*token*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="cannot load the tokenizer"):
        load_image_llm(BaseConfig("llava", str(tmp_path / "llava")))
