"""Renders a question (and in training its answer) to token ids, the same way everywhere.

The text is tokenised once as a whole, so that no token boundary differs from what the base has
seen; the answer is found behind the prompt by its tokens. The single image token then becomes as
many placeholders as the clip has video tokens. Segment ids separate what all questions of a video
share (0) from one question and its answer (1), for packing several questions a row (packing.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from features.config import BaseConfig
from features.errors import AnnotationError, ConfigError
from features.prompts import IMAGE, TEMPLATES, template_of
from train.image_llm import ImageLLM

IGNORE = -100
"""Label of a token without loss, as in torch and transformers."""
PADDING_SEGMENT = -1
"""Segment id of padding."""
QUESTION = "{question}"
_TAG = r"<(?!bos>)[^<>\s]+>"
_NEIGHBOURS = re.compile(rf"((?:Picture 1: )?(?:{_TAG})*{IMAGE}(?:{_TAG})*)(\s*)({QUESTION})")
"""The video with its tags (and Qwen-VL's label), what is between, and the question."""


@dataclass(frozen=True)
class Encoded:
    """A tokenised prompt with one image token still in it."""

    ids: Int[np.ndarray, " L"]
    answer_start: int
    """First token of the answer (the length when there is none)."""
    image_at: int
    """Position of the image token."""
    truncated: bool
    """Whether the answer lost its end; then there is no eos."""


@dataclass(frozen=True)
class Rendered:
    """A prompt ready for the model: placeholders in place."""

    input_ids: Int[np.ndarray, " L"]
    labels: Int[np.ndarray, " L"]
    """The answer's and eos's ids, -100 elsewhere (not shifted)."""
    segment_ids: Int[np.ndarray, " L"]
    """0 up to the last placeholder, 1 after it (1, 2, ... where several questions are packed)."""
    position_ids: Int[np.ndarray, " L"]


@dataclass(frozen=True)
class Prompter:
    """A base's prompt template with its tokenizer."""

    tokenizer: Any
    template: str
    image_token_id: int
    eos_token_id: int
    """Ends an answer in training."""
    image_token: str = IMAGE
    """The tokenizer's placeholder, if it has one."""

    @classmethod
    def of(cls, base: BaseConfig, llm: ImageLLM, video_last: bool = False) -> Prompter:
        """The base's own template, or the same with the video behind the question.

        Raises:
            ConfigError: unknown name of a template, or one that lacks `<image>` or `{question}`, or
                has one twice; with `video_last` also one whose video is not just before the
                question.
        """
        template = template_of(base.prompt)
        for part in (IMAGE, QUESTION):
            if template.count(part) != 1:
                raise ConfigError(
                    "a prompt template names its parts once",
                    where=f"base {base.name}",
                    got=repr(base.prompt),
                    wanted=f"{part} exactly once, or one of {', '.join(TEMPLATES)}",
                )
        if video_last:
            template = _video_behind(template, f"base {base.name}")
        template = template.replace(IMAGE, base.image_token)
        ids = llm.image_token_id, llm.stop_ids[0]
        return cls(llm.tokenizer, template, *ids, base.image_token)

    def encode(
        self, question: str, answer: str | None = None, room: int = 2**31, where: object = None
    ) -> Encoded:
        """Tokenise; an answer that does not fit `room` tokens loses its end (`truncated`).

        Raises:
            AnnotationError: the question holds the image token, or leaves no room for an answer.
        """
        prompt = self.template.replace(QUESTION, question.strip())
        ids = prompt_ids = self._tokenise(prompt)
        if len(prompt_ids) + (answer is not None) > room:
            raise AnnotationError(
                "the question leaves no room for an answer",
                where=where,
                got=f"{len(prompt_ids)} tokens without the video",
                wanted=f"fewer than {room}",
                do="raise max_length or drop the question",
            )
        truncated = False
        if answer is not None:
            joint = "" if prompt[-1:].isspace() else " "
            ids = [*self._tokenise(prompt + joint + answer.strip()), self.eos_token_id]
            if ids[: len(prompt_ids)] != prompt_ids:
                raise AnnotationError(
                    "the tokenizer merges the end of the prompt with the answer",
                    where=where,
                    got=repr(prompt[-20:] + joint + answer[:20]),
                    do="end the prompt template with a blank, a line end or a special token",
                )
            truncated, ids = len(ids) > room, ids[:room]
        places = [i for i, token in enumerate(ids) if token == self.image_token_id]
        if len(places) != 1:
            raise AnnotationError(
                "a prompt needs one image token", where=where, got=len(places), do="clean the text"
            )
        return Encoded(np.asarray(ids, np.int64), len(prompt_ids), places[0], truncated)

    def _tokenise(self, text: str) -> list[int]:
        if self.image_token_id >= 0:
            return list(self.tokenizer(text)["input_ids"])
        # As the original LLaVA does without a token of its own: each side by itself, one bos.
        first, *rest = text.split(self.image_token)
        ids = list(self.tokenizer(first)["input_ids"])
        for piece in rest:
            more = self.tokenizer(piece, add_special_tokens=False)["input_ids"]
            ids += [self.image_token_id, *more]
        return ids

    def expand(self, encoded: Encoded, num_video_tokens: int) -> Rendered:
        """Put `num_video_tokens` placeholders where the image token is (0 removes it)."""
        at, more = encoded.image_at, num_video_tokens - 1
        places = np.full(num_video_tokens, self.image_token_id, np.int64)
        ids = np.concatenate([encoded.ids[:at], places, encoded.ids[at + 1 :]])
        position = np.arange(len(ids))
        labels = np.where(position >= encoded.answer_start + more, ids, IGNORE)
        segments = (position >= at + num_video_tokens).astype(np.int64)
        return Rendered(ids, labels, segments, position)

    def render(
        self, question: str, answer: str | None, num_video_tokens: int, where: object = None
    ) -> Rendered:
        """Question (and answer) with exactly `num_video_tokens` placeholders."""
        return self.expand(self.encode(question, answer, where=where), num_video_tokens)


def _video_behind(template: str, where: str) -> str:
    """The template in which video and question have changed places.

    Every second sample of Video-ChatGPT's training set has them so (its script
    `convert_instruction_json_to_training_format.py`).

    Raises:
        ConfigError: they are not neighbours.
    """
    if _NEIGHBOURS.search(template) is None:
        raise ConfigError(
            "video and question of the prompt cannot change places",
            where=where,
            got=repr(template),
            wanted=f"{IMAGE}, with nothing but its tags and blanks between it and {QUESTION}",
            do="give another --prompt, or --video_order first",
        )
    return _NEIGHBOURS.sub(r"\3\2\1", template)
