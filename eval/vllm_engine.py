"""Answers by vLLM, which takes a prompt as embeddings and keeps the prefixes that prompts share.

vLLM sees the LLM alone, saved in transformers' form; prompts are embedded here, video and all. It
is not a dependency: install it where it is wanted (0.26 or newer). Prompt embeddings are off by
default in vLLM because a server would accept them from anybody; here they are our own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from eval.answering import Answer, Asked, Decoding, read_answer, seed_of
from features.errors import ConfigError
from train.batch import collate
from train.image_llm import ImageLLM
from train.video_llm import VideoLLM


class VllmEngine:
    """An `Engine` of eval/answering.py."""

    def __init__(self, model: VideoLLM, base: ImageLLM, decoding: Decoding) -> None:
        """Saves the LLM for vLLM and starts it; `model` stays on the CPU and embeds.

        Raises:
            ConfigError: vLLM is not installed, or the LLM counts or looks in a way of its own.
        """
        check_base(base)
        try:
            vllm: Any = import_module("vllm")
        except ImportError as error:
            do = "pip install 'vllm>=0.26' (CUDA), or engine torch"
            raise ConfigError("vLLM is not installed", got=error, do=do) from error
        self._model, self._base, self._decoding = model, base, decoding
        self._sampling = vllm.SamplingParams
        with tempfile.TemporaryDirectory(prefix="red-villm-vllm-") as folder:
            self._engine = vllm.LLM(**engine_options(base, save_llm(base, Path(folder))))

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """All at once; vLLM batches by itself and answers in order."""
        prompts = [{"prompt_embeds": rows} for rows in prompt_embeddings(self._model, asked)]
        options = [sampling_options(self._base, self._decoding, each) for each in asked]
        sampling = [self._sampling(**each) for each in options]
        outputs = self._engine.generate(prompts, sampling, use_tqdm=False)
        return [read_answer(self._base, list(out.outputs[0].token_ids)) for out in outputs]


def check_base(base: ImageLLM) -> None:
    """Whether causal attention and positions 0, 1, 2, ... are this base's.

    Raises:
        ConfigError: vLLM would compute something else from embeddings alone.
    """
    if (base.positions, base.attention) != ("sequence", "causal"):
        got = f"{base.name}: positions {base.positions}, attention {base.attention}"
        wanted, do = "sequence and causal", "engine torch"
        raise ConfigError("vLLM cannot decode this base exactly", got=got, wanted=wanted, do=do)


def save_llm(base: ImageLLM, folder: Path) -> Path:
    """The LLM alone, without eyes, projectors and tokenizer."""
    base.llm.save_pretrained(folder)
    return folder


def engine_options(base: ImageLLM, folder: Path) -> dict[str, Any]:
    """What vllm.LLM is started with."""
    return {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": str(base.llm.dtype).removeprefix("torch."),
        "enable_prompt_embeds": True,
        "enable_prefix_caching": True,
    }


def sampling_options(base: ImageLLM, decoding: Decoding, asked: Asked) -> dict[str, Any]:
    """What vllm.SamplingParams is made of. The tokenizer is ours: vLLM gives ids."""
    drawn = decoding.temperature > 0
    return {
        "temperature": decoding.temperature,
        "top_k": decoding.top_k if drawn else 0,
        "seed": seed_of(decoding.sampling_seed, asked) if drawn else None,
        "max_tokens": decoding.max_new_tokens,
        "stop_token_ids": list(base.stop_ids),
        "ignore_eos": True,  # the stop tokens are all that end an answer, as in the torch engine
        "detokenize": False,
    }


@torch.inference_mode()
def prompt_embeddings(model: VideoLLM, asked: Sequence[Asked]) -> Iterator[Float[Tensor, "L H"]]:
    """Each prompt with its video in place, in the LLM's dtype, on the CPU, without padding."""
    for each in asked:
        yield model.embed(collate([each.item], 0).to(model.llm.device))[0].cpu()
