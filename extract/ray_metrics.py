"""A run's numbers for Prometheus, through the metrics port that each Ray node has."""

from __future__ import annotations

from ray.util.metrics import Counter

from extract.meter import Usage

_USED = {
    "images": ("images", "Images encoded."),
    "decode_cpu_s": ("decode_cpu_seconds", "CPU seconds of decoding."),
    "encode_s": ("encode_seconds", "Seconds in which towers encoded or pooled."),
    "commit_s": ("commit_seconds", "Seconds in which shards were written."),
    "wait_s": ("wait_seconds", "Seconds in which towers waited for frames."),
}


class RayMetrics:
    """Counters of the driver; Ray puts `ray_` before their names."""

    def __init__(self) -> None:
        about = "Videos done, by status."
        self._videos = Counter("redvillm_extract_videos", about, tag_keys=("status",))
        self._used = {
            field: Counter(f"redvillm_extract_{name}", about)
            for field, (name, about) in _USED.items()
        }

    def count(self, video: bool, failure: str, usage: Usage) -> None:
        """Count one answer of a tower: a video's or a commit's."""
        if video:
            self._videos.inc(1, {"status": failure or "ok"})
        for field, counter in self._used.items():
            if value := getattr(usage, field):
                counter.inc(value)
