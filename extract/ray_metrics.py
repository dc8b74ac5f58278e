"""A run's numbers for Prometheus, through the metrics port that each Ray node has."""

from __future__ import annotations

from ray.util.metrics import Counter

from extract.meter import Usage

_FACTS = {
    "images": "Images encoded.",
    "decode_cpu_s": "CPU seconds of decoding.",
    "encode_s": "Seconds in which towers encoded or pooled.",
    "commit_s": "Seconds in which shards were written.",
    "wait_s": "Seconds in which towers waited for frames.",
}


class RayMetrics:
    """Counters of the driver; Ray puts `ray_` before their names."""

    def __init__(self) -> None:
        self._videos = Counter(
            "redvillm_extract_videos", "Videos done, by status.", tag_keys=("status",)
        )
        self._used = {name: Counter(f"redvillm_extract_{name}", _FACTS[name]) for name in _FACTS}

    def count(self, video: bool, failure: str, usage: Usage) -> None:
        """Count one answer of a tower: a video's or a commit's."""
        if video:
            self._videos.inc(1, {"status": failure or "ok"})
        for name, counter in self._used.items():
            if value := getattr(usage, name):
                counter.inc(value)
