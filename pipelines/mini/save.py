"""The mini base's shape and its files: the layout of `llava-hf/llava-1.5-7b-hf`, made small."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from pipelines.worlds import DEMO, World

IMAGE_SIZE = 32
PATCH_SIZE = 8
NUM_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>")


def make_tokenizer(of: World = DEMO) -> PreTrainedTokenizerFast:
    """Builds the word-level tokenizer of a world's language; it puts `<s>` first, as Llama's."""
    words = [*SPECIAL_TOKENS, "USER:", "ASSISTANT:", *of.vocabulary()]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if chinese := [word for word in of.vocabulary() if not word.isascii()]:
        _write_without_blanks(core, chinese)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", words.index("<s>"))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        add_bos_token=True,
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def _write_without_blanks(core: Tokenizer, words: list[str]) -> None:
    """Finds these words where no blanks divide them, the longest first, and joins them again."""
    longest_first = Regex("|".join(sorted(words, key=lambda word: (-len(word), word))))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [core.pre_tokenizer, pre_tokenizers.Split(longest_first, "isolated")]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.WordPiece("##", cleanup=False),  # a blank before each word but the first
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=[^\x00-\x7f]) (?=[^\x00-\x7f])"), ""),
        ]
    )


def make_model(
    tokenizer: PreTrainedTokenizerFast, of: World = DEMO
) -> LlavaForConditionalGeneration:
    """Builds the untrained LLaVA in float32; seed torch before."""
    vision = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=384,
        projection_dim=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    )
    tokens = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        **tokens,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=SPECIAL_TOKENS.index("<image>"),
        image_seq_length=NUM_PATCHES,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
        **tokens,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        **tokens, max_new_tokens=of.max_new_tokens
    )
    # A wider spread than the usual 0.02, or the places are learnt late.
    tower: Any = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)  # older releases nest it
    tower.embeddings.position_embedding.weight.data.normal_(std=0.4)
    # Wide enough to tell words apart at once, narrow enough for the transition's small steps.
    words: Any = model.get_input_embeddings()
    words.weight.data.normal_(std=0.2)
    if of.twins:  # the same meanings, a step away in the direction of the other language
        vocab, step = tokenizer.get_vocab(), 0.2 * torch.randn(words.embedding_dim)
        for second, first in of.twins:
            words.weight.data[vocab[second]] = words.weight.data[vocab[first]] + step
    model.lm_head.weight.data.copy_(words.weight.data)  # to read a word is then to copy it
    return model


def save_base(
    model: LlavaForConditionalGeneration,
    tokenizer: Any,
    card: str,
    folder: Path,
) -> None:
    """Writes the base beside `folder`, then swaps it in: readers see the old one or the new one."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    )
    image_processor.save_pretrained(fresh)  # preprocessor_config.json, for readers of old layouts
    LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor,
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(fresh)
    (fresh / "README.md").write_text(card, encoding="utf-8")
    stale = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(stale, ignore_errors=True)
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)
