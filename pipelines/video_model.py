"""A trained Video LLM for code of one's own: a video file and a question in, an answer out.

What `extract` and `eval` do with whole datasets, for one video: the same decoding child, tower,
pooling and rounding, and the same prompt and decoding. So the answers are those of the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from eval.answering import Asked, Decoding, TorchEngine
from eval.generate import GenerateConfig
from extract.decode_child import DecodeChild
from extract.options import ExtractConfig
from extract.video import DecodeRequest, View
from features.config import BaseConfig
from features.describe import is_checkpoint, load_base
from features.device import intra_op_threads, pick_device, pick_dtype
from features.errors import CheckpointError, FingerprintError, StoreError
from features.plan import PlanRow
from features.spec import IMPORTED, FeatureSpec
from features.store import VideoFeatures
from features.tower_files import make_spec
from train.batch import Item
from train.checkpoint import (
    ProjectorConfig,
    check_projectors,
    find_projectors,
    load_projectors,
    read_projector_config,
)
from train.image_llm import base_digest, load_image_llm
from train.video_llm import VideoLLM
from train.videos import Video

if TYPE_CHECKING:
    from extract.tower import Tower

_FRAMES, _QUESTIONS = ExtractConfig.batch_size, GenerateConfig.batch_size
"""Frames a ViT batch and questions a batch, as `extract` and `eval` have them by default."""


def load(
    path: str | Path, device: str = "auto", dtype: str = "auto", base: str | None = None
) -> VideoModel:
    """A Video LLM from trained projectors and the base that they name.

    Args:
        path: folder of a run, its projectors/, or an exported or imported folder.
        device: auto (cuda, mps, cpu) or a torch device.
        dtype: the LLM's: float32, bfloat16, float16, float64; auto: float32 on a CPU, float16 on a
            GPU.
        base: where the base lies, if not where the projectors say: folder, hub id or recipe.

    Raises:
        CheckpointError: projectors or base are missing or damaged.
        FingerprintError: the base is not the one that the projectors were trained in front of.
    """
    folder = find_projectors(Path(path))
    config = read_projector_config(folder)
    recipe = config.base if base is None else _moved(config.base, base)
    try:
        digest = base_digest(recipe)
    except CheckpointError as error:
        what, do = "cannot load the base of these projectors", "say where it lies: base=..."
        raise CheckpointError(what, where=folder, got=error, do=do) from error
    check_projectors(config, folder, recipe.name, digest, config.spec)
    where = pick_device(device)
    kind = pick_dtype(dtype, where, accelerated=torch.float16)  # as `eval` decodes
    return VideoModel(folder, config, recipe, where, kind)


class VideoModel:
    """Answers questions about videos. Made by `load`."""

    def __init__(
        self,
        folder: Path,
        config: ProjectorConfig,
        base: BaseConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Loads the base and puts the projectors of `folder` in front of it."""
        self.config = config
        """Where the projectors come from."""
        self._recipe, self._device = base, device
        self._base = load_image_llm(base, device, dtype)
        projector = load_projectors(folder, self._base, config.spec)
        self._model = VideoLLM.of(projector, self._base).eval()
        self._prompter = config.prompter(base, self._base)

    def answer(
        self, video: str | Path | VideoFeatures | Video, question: str, max_new_tokens: int = 256
    ) -> str:
        """See `answers`."""
        return self.answers(video, [question], max_new_tokens)[0]

    def answers(
        self,
        video: str | Path | VideoFeatures | Video,
        questions: Sequence[str],
        max_new_tokens: int = 256,
    ) -> list[str]:
        """Greedy answers to questions about one video, each on its own.

        Args:
            video: a video file, features out of a store of the projectors' spec, or what `encode`
                made.
            questions: any number.
            max_new_tokens: longest answer, in tokens.

        Raises:
            VideoError: the file cannot be used.
            StoreError: features of another width than the base's eyes give, or not finite.
            AnnotationError: a question holds the image token.
        """
        found = self._video(video)
        count = self._model.projector.num_tokens(len(found.temporal), len(found.spatial))
        prompts = [self._prompter.encode(text, where=text) for text in questions]
        items = [Item((), self._prompter.expand(prompt, count), found) for prompt in prompts]
        asked = [Asked(text, 1, item) for text, item in zip(questions, items, strict=True)]
        engine = TorchEngine(self._model, self._base, Decoding(max_new_tokens))
        with intra_op_threads(self._model):
            batches = [asked[i : i + _QUESTIONS] for i in range(0, len(asked), _QUESTIONS)]
            return [reply.text for batch in batches for reply in engine(batch)]

    def encode(self, path: str | Path) -> Video:
        """A video file's features, so that many questions can be asked at little cost.

        Raises:
            VideoError: the file cannot be used; its `code` says why.
            FingerprintError: the eyes of the base are not those of the training features.
        """
        from extract.shard_builder import ShardBuilder  # with open_clip: only who has videos waits

        spec, name = self.config.spec, str(path)
        view = View(spec.num_frames, spec.preprocessing)
        with DecodeChild() as child:
            decoded = child.decode(DecodeRequest(name, (view,), spec.image_size, thumbs=0))
        row = PlanRow(name, name, size=0, digest="", part=1, shard=0, row=0)
        builder = ShardBuilder(self._tower, [row], _FRAMES, [spec.store_dtype])
        with intra_op_threads(self._tower.encoder):
            builder.add(decoded)
            ((made,),) = builder.finish()
        # a video that was decoded has both
        features = VideoFeatures(made.temporal, made.spatial, len(decoded.chosen[0]))  # type: ignore[arg-type]
        return Video.of(features, self.config.switches, Path(path).stem)

    @cached_property
    def _tower(self) -> Tower:
        from extract.tower import load_tower

        spec = self.config.spec
        tower = load_tower(self._recipe, spec.compute_dtype, str(self._device))
        _check_eyes(self._recipe, tower.digest, spec)
        return tower

    def _video(self, video: str | Path | VideoFeatures | Video) -> Video:
        if isinstance(video, VideoFeatures):
            video = Video.of(video, self.config.switches, "features given")
        elif not isinstance(video, Video):
            video = self.encode(video)
        got, wanted = video.spatial.shape[1], self._base.aligner.width
        if got != wanted:
            raise StoreError("features of another width", got=got, wanted=wanted)
        return video


def _moved(recorded: BaseConfig, elsewhere: str) -> BaseConfig:
    """The recorded recipe with its files elsewhere; prompt, layer and the rest stay."""
    if is_checkpoint(elsewhere):
        return replace(recorded, checkpoint=elsewhere)
    there = load_base(elsewhere)
    files = {name: getattr(there, name) for name in ("checkpoint", "delta_base", "tower")}
    return replace(recorded, **files)


def _check_eyes(base: BaseConfig, weights_digest: str, theirs: FeatureSpec) -> None:
    """Refuse to make features that are not those of the training, nor of this code's numerics.

    Raises:
        FingerprintError: naming the first setting that differs.
    """
    base = replace(base, preprocessing=theirs.preprocessing, tower=theirs.tower)
    kinds = theirs.compute_dtype, theirs.store_dtype
    ours = make_spec(base, weights_digest, theirs.num_frames, *kinds)
    for name, value in asdict(theirs).items():
        if value not in (getattr(ours, name), IMPORTED):
            raise FingerprintError(
                f"these eyes do not see as in training: {name} differs",
                got=f"base {base.name}: {getattr(ours, name)}",
                wanted=f"the projectors: {value}",
                do="use the base, and the release, that extracted the features of the training",
            )
