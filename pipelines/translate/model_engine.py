"""A translation model on this machine: a MarianMT, or a T5 that a prefix tells the language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from eval.judges.asking import Reply
from features.checkpoint_files import resolve_checkpoint
from features.device import intra_op_threads, pick_device, pick_dtype
from features.errors import CheckpointError
from pipelines.translate.engines import Ask, Before, batches
from pipelines.translate.options import Translator
from pipelines.translate.protect import mark

_SEVERAL = ("m2m_100", "mbart", "nllb-moe")
"""Models whose first token says the language, which nobody gives here."""


class ModelEngine:
    """Loads the model once and translates in batches, by beam search, longest texts first.

    Such models know sentences and no line breaks, so each line of a text is translated by itself.
    """

    def __init__(self, translator: Translator) -> None:
        """Loads tokenizer and model. No code of the checkpoint is run.

        Raises:
            CheckpointError: not a sequence-to-sequence model of transformers in safetensors.
            ConfigError: no such device.
        """
        self._config, self._name = translator.config, translator.label
        device = pick_device(self._config.device)
        dtype = pick_dtype("auto", device, accelerated=torch.float16)
        folder = resolve_checkpoint(self._config.model)
        self._tokenizer: Any
        self._model: Any
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = AutoModelForSeq2SeqLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError, TypeError, AssertionError) as error:
            wanted = "a MarianMT or T5 of transformers, in safetensors, without code"
            got = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            do = "if its weights are pickled, convert a copy that you trust: see opus-mt-en-zh.yaml"
            raise CheckpointError(
                "cannot load", where=folder, got=got, wanted=wanted, do=do
            ) from error
        if self._model.config.model_type in _SEVERAL:
            what, wanted = "a model that must be told its language", "MarianMT or T5"
            got = self._model.config.model_type
            raise CheckpointError(what, where=folder, got=got, wanted=wanted)
        self._model = self._model.to(device).eval()
        self._most: int = getattr(self._model.config, "max_position_embeddings", 512)

    def ask(self, asks: Sequence[Ask], before: Before) -> Iterator[tuple[str, Reply]]:
        """See `Engine`; a text that does not fit the model is a failure."""
        longest_first = sorted(asks, key=lambda ask: (-len(ask.source), ask.key))
        for batch in batches(longest_first, self._config):
            before([ask.key for ask in batch])
            yield from zip([ask.key for ask in batch], self._translate(batch), strict=True)

    def _translate(self, batch: Sequence[Ask]) -> list[Reply]:
        lines = [mark(ask.source, "brackets").split("\n") for ask in batch]
        flat = [line for text in lines for line in text if line.strip()]
        done = iter(self._generate(flat))
        replies = []
        for text in lines:
            parts = [next(done) if line.strip() else line for line in text]
            whole = "\n".join(part for part in parts if part is not None)
            long = Reply("api_failure", reason="too long for the model")
            replies.append(long if None in parts else Reply("ok", whole, "", self._name))
        return replies

    @torch.inference_mode()
    def _generate(self, lines: Sequence[str]) -> list[str | None]:
        """A translation of each line, None where it does not fit."""
        prefixed = [self._config.prefix + line for line in lines]
        sources = self._tokenizer(prefixed, return_tensors="pt", padding=True)
        most = min(self._config.max_tokens, self._most - 1)
        if sources["input_ids"].shape[1] > self._most:
            return [self._generate([line])[0] for line in lines] if len(lines) > 1 else [None]
        with intra_op_threads(self._model):
            ids = self._model.generate(
                **sources.to(self._model.device),
                num_beams=self._config.beams,
                do_sample=False,
                max_new_tokens=most,
            )
        lengths = (ids != self._model.config.pad_token_id).sum(1).tolist()
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [
            None if length >= most else text for text, length in zip(texts, lengths, strict=True)
        ]
