"""A judge on this machine: any causal LLM of transformers that has a chat template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from jinja2 import TemplateError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from eval.judges.asking import Reply, Request
from eval.judges.local_name import local_name
from eval.judges.options import JudgeConfig
from features.checkpoint_files import resolve_checkpoint
from features.device import intra_op_threads, pick_device, pick_dtype
from features.errors import CheckpointError


@dataclass(frozen=True)
class _Prompt:
    key: str
    ids: list[int]


class LocalAsker:
    """Loads the model once and answers in batches of `concurrency` prompts, longest first.

    Greedy at temperature 0. Above it, noise that depends on seed and request alone decides, so a
    reply does not depend on what else is in its batch. What the checkpoint recommends for decoding
    (penalties, top-p) is left out: it would be a setting that no record shows.
    """

    def __init__(self, config: JudgeConfig) -> None:
        """Loads tokenizer and model. No code of the checkpoint is run.

        Raises:
            CheckpointError: not a causal LLM of transformers in safetensors, or no chat template.
            ConfigError: no such device.
        """
        device = pick_device(config.device)
        dtype = pick_dtype("auto", device, accelerated=torch.bfloat16)
        folder = resolve_checkpoint(config.model)
        self._config = config
        self._name = local_name(config.model)
        self._tokenizer: Any
        self._model: Any
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            wanted = "a causal LLM of transformers, in safetensors, without code of its own"
            got = str(error).splitlines()[0]
            raise CheckpointError("cannot load", where=folder, got=got, wanted=wanted) from error
        if not self._tokenizer.chat_template:
            do = "take a model that was tuned to follow instructions"
            raise CheckpointError("no chat template", where=folder, do=do)
        self._model = self._model.to(device).eval()
        ends = self._model.generation_config.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends: list[int] = ends if isinstance(ends, list) else [ends]
        self._model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        text_config = self._model.config.get_text_config()
        limit = self._tokenizer.model_max_length
        self._context: int = getattr(text_config, "max_position_embeddings", limit)

    def ask(
        self, requests: Sequence[Request], before: Callable[[str], str]
    ) -> Iterator[tuple[str, Reply]]:
        """Replies batch by batch; a prompt that does not fit the context is an api_failure."""
        prompts = []
        for request in requests:
            prompt = _Prompt(request.key, self._render(request))
            if len(prompt.ids) + self._config.max_tokens > self._context:
                reason = (
                    f"a prompt of {len(prompt.ids)} tokens and a reply of up to "
                    f"{self._config.max_tokens} exceed the model's {self._context}"
                )
                yield request.key, self._failure(reason)
            else:
                prompts.append(prompt)
        prompts.sort(key=lambda prompt: (-len(prompt.ids), prompt.key))
        for start in range(0, len(prompts), self._config.concurrency):
            batch = prompts[start : start + self._config.concurrency]
            leaving: list[_Prompt] = []
            try:
                for prompt in batch:
                    before(prompt.key)
                    leaving.append(prompt)
            except Exception:
                yield from self._answer(leaving)
                raise
            yield from self._answer(batch)

    def _answer(self, batch: Sequence[_Prompt]) -> Iterator[tuple[str, Reply]]:
        """All of a batch; when memory is short, in halves."""
        if not batch:
            return
        try:
            rows = self._generate(batch)
        except torch.OutOfMemoryError as error:
            rows = []
            reason = f"out of memory: {error}".splitlines()[0]
        if rows:
            for prompt, ids in zip(batch, rows, strict=True):
                yield prompt.key, self._reply(prompt, ids)
        elif len(batch) == 1:
            yield batch[0].key, self._failure(reason)
        else:
            torch.accelerator.empty_cache()
            yield from self._answer(batch[: len(batch) // 2])
            yield from self._answer(batch[len(batch) // 2 :])

    @torch.inference_mode()
    def _generate(self, batch: Sequence[_Prompt]) -> list[list[int]]:
        """New ids of each prompt, with whatever fills up behind its end."""
        length = max(len(prompt.ids) for prompt in batch)
        device, pad = self._model.device, self._ends[0]
        rows = [[pad] * (length - len(prompt.ids)) + prompt.ids for prompt in batch]
        seen = [[int(i >= length - len(p.ids)) for i in range(length)] for p in batch]
        how = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            max_new_tokens=self._config.max_tokens,
            eos_token_id=self._ends,
            pad_token_id=pad,
        )
        noise = LogitsProcessorList()
        if self._config.temperature > 0:
            keys = [prompt.key for prompt in batch]
            noise.append(_Sampling(keys, self._config.temperature, self._config.seed, device))
        with intra_op_threads(self._model):
            ids = self._model.generate(
                torch.tensor(rows, device=device),
                attention_mask=torch.tensor(seen, device=device),
                generation_config=how,
                logits_processor=noise,
            )
        found: list[list[int]] = ids[:, length:].tolist()
        return found

    def _reply(self, prompt: _Prompt, ids: list[int]) -> Reply:
        end = next((i for i, token in enumerate(ids) if token in self._ends), len(ids))
        text = self._tokenizer.decode(ids[:end], skip_special_tokens=True)
        return Reply("ok", text, "", self._name, len(prompt.ids), end)

    def _failure(self, reason: str) -> Reply:
        return Reply("api_failure", reason=reason, model=self._name)

    def _render(self, request: Request) -> list[int]:
        """Ids of the chat. Control tokens inside the texts are taken apart: they are only text."""
        system, user = self._plain(request.system), self._plain(request.user)
        chat = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        try:
            return self._chat_ids(chat)
        except TemplateError:  # a template without a system's turn
            return self._chat_ids([{"role": "user", "content": f"{system}\n\n{user}"}])

    def _chat_ids(self, chat: list[dict[str, str]]) -> list[int]:
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _plain(self, text: str) -> str:
        for token in self._tokenizer.added_tokens_decoder.values():
            if len(token.content) > 1:
                text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
        return text


class _Sampling(LogitsProcessor):
    """Makes the likeliest token a sample: Gumbel noise on logits divided by the temperature."""

    def __init__(
        self, keys: Sequence[str], temperature: float, seed: int | None, device: torch.device
    ) -> None:
        self._temperature = temperature
        self._noise = [torch.Generator(device) for _ in keys]
        for key, generator in zip(keys, self._noise, strict=True):
            if seed is None:
                generator.seed()
            else:
                digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
                generator.manual_seed(int.from_bytes(digest[:7], "big"))

    def __call__(
        self, input_ids: Int[Tensor, "B L"], scores: Float[Tensor, "B V"]
    ) -> Float[Tensor, "B V"]:
        """Noise for one step."""
        rows = [
            torch.empty_like(scores[0], dtype=torch.float32).exponential_(generator=generator)
            for generator in self._noise
        ]
        return scores / self._temperature - torch.stack(rows).log()
