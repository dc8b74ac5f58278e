"""What each stage does, in FLOPs, bytes and tokens, and the hours that it takes on a machine.

extraction  frames = videos x T; FLOPs = frames x FLOPs of an image (plan_base.frame_flops). A video
            is decoded where its frames are: from the key frame before each of them, or all of it
            where key frames are further apart than frames. Store = videos x (T + N) x D numbers,
            and thumbnails and records beside them.
training    tokens = prompt + video + question + answer, a question; FLOPs = 4 P a token, 5.5 P with
            activation checkpointing, 4 V H an answer token, and attention (train/flops.py); times
            questions x epochs.
answering   a video's prefix passes through the LLM once for all questions about it, each question
            once, each token of an answer once: 2 P a token, 2 V H a token answered. A decoding step
            reads all weights for up to `batch_size` questions, and all keys and values.
hours       FLOPs / (peak x share); for decoding steps the longer of that and bytes / (bandwidth x
            share).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.generate import GenerateConfig
from features.config import BaseConfig
from features.prompts import template_of
from features.spec import ComputeDtype
from pipelines.plan_base import BaseShapes
from pipelines.plan_data import Questions, Videos
from pipelines.plan_machine import NONE, Machine, Range, between, digits, size
from train.flops import StepWork
from train.frozen import CHECKPOINT_ABOVE
from train.options import TrainConfig, pick_budget
from train.packing import visible_pairs

_FPS = 30.0
_GOP = (60.0, 250.0)
"""Frames from one key frame to the next, of web video."""
_PIXELS = (640 * 360.0, 1280 * 720.0)
"""Of a frame of web video."""
WEB_VIDEO = f"{_FPS:g} frames/s, 360p to 720p, key frames every {_GOP[0]:g} to {_GOP[1]:g} frames"
LONGEST = 2.0
"""The longest answer of a batch over the mean one."""


@dataclass(frozen=True)
class Subject:
    """What is planned: a base, and how it is trained."""

    base: BaseConfig
    """With the number of frames that is planned."""
    shapes: BaseShapes
    """Of the base."""
    config: TrainConfig
    compute_dtype: ComputeDtype = "float32"
    """Of the ViT."""

    @property
    def video(self) -> int:
        """Tokens of a video."""
        return self.shapes.video_tokens(self.config.switches, self.base.num_frames)

    @property
    def template(self) -> float:
        """Tokens of the prompt template, about, by its words."""
        template = template_of(self.base.prompt)
        return 1.5 * len(template.replace("{question}", " ").replace("<image>", " ").split())


@dataclass(frozen=True)
class Row:
    """One stage: what it takes."""

    stage: str
    how: str
    """The formula with its numbers."""
    gpu_s: Range = NONE
    cpu_s: Range = NONE
    disk: Range = NONE
    """Bytes written and kept."""
    network: Range = NONE
    """Bytes read from elsewhere."""
    tokens: Range = NONE
    """Of judges: to read and to write."""
    money: Range | None = None
    """Of judges and GPU-hours, where prices are known."""


def _on_device(machine: Machine, stage: str, seconds: Range, cpu: Range = NONE) -> dict[str, Range]:
    """Arithmetic in GPU-seconds, or in CPU-seconds where there is no GPU; `cpu` besides."""
    cpu += Range.of(machine.start_s.get(stage, 0.0))
    if machine.device == "cpu":
        return {"cpu_s": seconds + cpu}
    return {"gpu_s": seconds, "cpu_s": cpu}


def decoded_frames(seconds: float, num_frames: int, gop: float) -> float:
    """Frames that must be decoded to get T spread evenly over a video.

    With a stride of s frames and key frames every g: behind the last chosen frame the decoder
    goes on, unless a key frame lies between (probability s / g), from which it needs s / 2 on
    average; where s > g it always starts from one, and needs (g + 1) / 2.
    """
    total = seconds * _FPS
    stride = total / max(1.0, min(num_frames, total))
    each = (gop + 1) / 2 if stride >= gop else stride * (1 - stride / (2 * gop))
    return min(total, num_frames * max(1.0, each))


def extraction(name: str, subject: Subject, videos: Videos, machine: Machine) -> Row:
    """See the head of this file."""
    shapes, num_frames, dtype = subject.shapes, subject.base.num_frames, subject.compute_dtype
    frames = videos.count * num_frames
    vit = Range.of(frames * shapes.frame_flops / machine.peak[dtype]).over(machine.extract)
    if videos.decode_s is not None:
        decoding = Range.of(videos.count * videos.decode_s)
        how = f"{videos.decode_s:.3g} s to decode one, measured on a sample"
    else:
        low, high = sorted(decoded_frames(videos.seconds, num_frames, gop) for gop in _GOP)
        decoded = Range(low * _PIXELS[0], high * _PIXELS[1]) * videos.count
        chosen = Range(*_PIXELS) * frames
        decoding = decoded.over(machine.decode_pixels) + chosen.over(machine.frame_pixels)
        how = f"{low:,.0f} to {high:,.0f} frames of 360p to 720p decoded of each"
    beside = Range(*machine.beside) * videos.count
    gflop = digits(shapes.frame_flops / 1e9, 4)
    reading = videos.nbytes.over(machine.network) * (1 / 3600)
    elsewhere = NONE if videos.here else videos.nbytes
    return Row(
        f"extract {name}",
        f"{videos.count:,} videos x {num_frames} frames x {gflop} GFLOP in {dtype}; {how}; "
        f"store {shapes.feature_bytes(num_frames):,} bytes a video + thumbnails"
        f"{'' if videos.here else ', and the videos themselves'}; "
        f"{between(reading)} h to read the videos",
        **_on_device(machine, "extract", vit, decoding),
        disk=Range.of(float(videos.count * shapes.feature_bytes(num_frames))) + beside + elsewhere,
        network=elsewhere,
    )


def question_work(subject: Subject, asked: Questions) -> StepWork:
    """What one training question makes of tokens, answer tokens and pairs, on average.

    Questions that share a row share the tokens of their video.
    """
    shared, row = subject.video, subject.config.questions_per_row
    own = subject.template + asked.question + asked.answer + 1
    segments = np.repeat(np.arange(row + 1), [shared, *[round(own)] * row])
    return StepWork(shared / row + own, asked.answer + 1, visible_pairs(segments) / row, 1.0)


def training_flops(subject: Subject, asked: Questions) -> float:
    """FLOPs of one question."""
    choice, llm = subject.config.activation_checkpointing, subject.shapes.llm
    again = choice == "on" or (choice == "auto" and llm.step_weights > CHECKPOINT_ABOVE)
    return llm.flops(question_work(subject, asked), again)


def training(subject: Subject, asked: Questions, machine: Machine) -> Row:
    """See the head of this file."""
    budget = pick_budget(subject.config, subject.base)
    steps = asked.count * budget.epochs // budget.batch_size
    if subject.config.max_steps is not None:
        steps = min(steps, subject.config.max_steps)
    questions = steps * budget.batch_size
    flops = training_flops(subject, asked)
    peak = machine.peak[machine.llm_dtype]
    seconds = Range.of(questions * flops / peak).over(machine.train)
    return Row(
        "train",
        f"{questions:,} questions ({steps:,} steps of {budget.batch_size}) x "
        f"{digits(flops / 1e12, 3)} TFLOP ({question_work(subject, asked).tokens:,.0f} tokens, of "
        f"them {subject.video} of video)",
        **_on_device(machine, "train", seconds),
    )


@dataclass(frozen=True)
class AnswerWork:
    """FLOPs and bytes of answering a split."""

    prefill: float
    """FLOPs of prefixes and questions."""
    decoding: float
    """FLOPs of the answers' tokens."""
    read: float
    """Bytes that the decoding steps read."""

    def least_seconds(self, machine: Machine) -> float:
        """Time at the whole of peak and bandwidth."""
        peak = machine.peak[machine.llm_dtype]
        return self.prefill / peak + max(self.decoding / peak, self.read / machine.bandwidth)


def answer_work(subject: Subject, asked: Questions, said: float, machine: Machine) -> AnswerWork:
    """What answering a split takes; `said` is the mean number of tokens of an answer."""
    llm, prompts = subject.shapes.llm, asked.count * asked.wordings
    own, video = subject.template + asked.question, subject.video
    prefix = StepWork(video, 0, video * (video + 1) / 2, 0)
    rest = StepWork(own, 1, own * video + own * (own + 1) / 2, 1)
    context = video + own + said / 2
    spoken = StepWork(said, said, said * context, 1)
    steps = prompts / min(GenerateConfig.batch_size, prompts) * said * LONGEST
    # A cache holds a video once for the questions about it that are decoded together.
    together = min(GenerateConfig.batch_size, max(1.0, prompts / asked.videos))
    cached = 2 * llm.layers * llm.attention_width * (video / together + own + said / 2)
    read = steps * llm.step_weights + prompts * said * cached
    return AnswerWork(
        asked.videos * llm.forward(prefix) + prompts * llm.forward(rest),
        prompts * llm.forward(spoken),
        (4 if machine.device == "cpu" else 2) * read,
    )


def answering(name: str, work: AnswerWork, asked: Questions, said: float, machine: Machine) -> Row:
    """See the head of this file."""
    seconds = Range.of(work.least_seconds(machine)).over(machine.answer)
    return Row(
        f"answer {name} {asked.split}",
        f"{asked.count * asked.wordings:,} prompts about {asked.videos:,} videos: "
        f"{digits(work.prefill / 1e15, 3)} PFLOP to read; {said:,.0f} tokens each: "
        f"{digits(work.decoding / 1e15, 3)} PFLOP and {size(work.read)} of weights "
        f"and caches",
        **_on_device(machine, "answer", seconds),
    )
