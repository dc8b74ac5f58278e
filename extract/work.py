"""What every process of one extraction must know, whoever runs it.

Light on purpose: a process that only waits for a decoder loads neither torch nor a store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extract.decode_child import DecodeChild
from extract.video import DecodedVideo, DecodeRequest
from features.config import BaseConfig
from features.errors import VideoError
from features.plan import Plan, PlanRow
from features.spec import FeatureSpec


@dataclass(frozen=True)
class Work:
    """One store to be filled."""

    store: Path
    base: BaseConfig
    spec: FeatureSpec
    plan: Plan
    batch_size: int
    """Frames a ViT batch."""
    format: str
    """Shard format."""
    device: str
    thumbs: int
    """Thumbnails a video."""
    deadline_s: int
    """CPU seconds a video."""

    def request(self, row: PlanRow) -> DecodeRequest | None:
        """What to ask the decoder for a planned video; None when there was no file to plan."""
        if row.size < 0:
            return None
        return DecodeRequest(
            path=row.path,
            num_frames=self.spec.num_frames,
            image_size=self.spec.image_size,
            preprocessing=self.spec.preprocessing,
            thumbs=self.thumbs,
            deadline_s=self.deadline_s,
        )


def decode_row(
    child: DecodeChild, row: PlanRow, request: DecodeRequest | None
) -> DecodedVideo | VideoError:
    """One planned video's frames, or why it cannot be used: a failure is a value here."""
    if request is None:
        return VideoError("missing", "no file for this video", where=row.path or row.video_id)
    try:
        return child.decode(request)
    except VideoError as error:
        return error
