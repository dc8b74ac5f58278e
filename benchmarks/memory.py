"""Whether the memory of a run depends on how many videos there are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Measured
from benchmarks.world import Scale, make_base, make_tiny_clips

_RUN = """
import json, sys
from pathlib import Path
from extract.run import ExtractConfig, extract
from features.config import BaseConfig, DatasetConfig
features, videos, base = json.loads(sys.argv[1])
options = {"executor": "serial", "device": "cpu", "videos_per_shard": 32}
config = ExtractConfig(Path(features), **options)
done = extract(config, BaseConfig(**base), DatasetConfig("tiny", Path(videos)))
sys.exit(bool(done.failed or done.waiting))
"""


def measure_memory(root: Path, scale: Scale) -> Measured:
    """Peak of all processes' resident memory, for few and for many clips.

    Small shards, so that the allocators have found their size before the few are done.
    """
    base = make_base(root, scale, tiny=True)
    peaks, seconds = [], []
    for count in scale.tiny_clips:
        videos = make_tiny_clips(root, count).videos
        features = tempfile.mkdtemp(prefix="run-", dir=root)
        eyes = {key: getattr(base, key) for key in ("name", "checkpoint", "tower", "num_frames")}
        eyes |= {"image_size": base.image_size, "preprocessing": base.preprocessing}
        command = [sys.executable, "-c", _RUN, json.dumps([features, str(videos), eyes])]
        start = time.perf_counter()
        try:
            peaks.append(peak_of(command))
        finally:
            shutil.rmtree(features)
        seconds.append(time.perf_counter() - start)
    few, many = (f"{count}_clips" for count in scale.tiny_clips)
    megabytes = {f"rss_mb_{few}": peaks[0] / 2**20, f"rss_mb_{many}": peaks[1] / 2**20}
    times = {f"memory_{few}": seconds[0], f"memory_{many}": seconds[1]}
    return Measured({"rss_growth": peaks[1] / peaks[0]}, times | megabytes)


def peak_of(command: list[str]) -> int:
    """Run a command; the most bytes that it and its descendants held at one moment."""
    peak = 0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _tree_rss(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {command}")
    return peak


def _tree_rss(pid: int, parent: bytes = b"") -> int:
    """Resident bytes of a process and its descendants; 0 for one that is gone.

    Without pages of files, which are the kernel's to drop, and without a child that has not yet
    become the program it is to be: its memory is its parent's.
    """
    proc, total = Path(f"/proc/{pid}"), 0
    try:
        command = (proc / "cmdline").read_bytes()
        if command == parent:
            return 0
        total += 1024 * int((proc / "status").read_text().partition("RssAnon:")[2].split()[0])
        for task in (proc / "task").iterdir():
            children = (task / "children").read_text().split()
            total += sum(_tree_rss(int(child), command) for child in children)
    except (OSError, IndexError):
        pass
    return total
