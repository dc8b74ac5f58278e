"""The commands, the recipes and the demo world; and `pipelines.load` for code of one's own.

import pipelines
model = pipelines.load("runs/demo/red-villm/seed-0")
print(model.answer("clip.mp4", "what happens after the circle moves"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.video_model import VideoModel, load

__all__ = ["VideoModel", "load"]


def __getattr__(name: str) -> Any:
    """Both names when they are asked for: they need torch, half of the commands do not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines import video_model

    return getattr(video_model, name)
