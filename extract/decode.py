"""From a video file to sampled frames, or to the reason why not. Runs in the decoding child.

libav conceals damage: it prints a line and hands out a plausible wrong frame. So decord's frames
count only while libav stayed silent. Otherwise PyAV decodes the same frames strictly (one thread,
`err_detect=explode`), and its word is final: the frames at the same presentation times, or a
failure. PyAV decodes no more than the frames need, so the verdict does not depend on how far
decord's threads happened to read ahead.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import av
import numpy as np
from jaxtyping import UInt8

from extract.preprocess import jpeg_thumb, to_square
from extract.sampling import Choice, choose_frames
from extract.video import DecodedVideo, DecodeRequest
from features.errors import VideoError

try:
    import decord
except ImportError:  # no wheel for this platform
    decord = None

_MAGIC = re.compile(rb"....(ftyp|moov|mdat|wide|free|skip)|\x1aE\xdf\xa3|RIFF|GIF8", re.DOTALL)
_CHUNK_BYTES = 64 * 2**20
_captured = False
av.logging.restore_default_callback()  # libav's errors to fd 2, where we count them
av.logging.set_libav_level(av.logging.ERROR)


class _Doubt(Exception):  # noqa: N818 - not an error yet
    """Why decord's frames are not good enough, and which they were, if it got so far."""

    def __init__(self, reason: str, total: int = 0, pts: tuple[float, ...] = ()) -> None:
        super().__init__(reason)
        self.total = total
        self.pts = pts


def decode_video(request: DecodeRequest) -> DecodedVideo:
    """Sample, decode and preprocess one video.

    Concealed damage is only seen after `capture_error_lines()`, as in the decoding child.

    Raises:
        VideoError: the video cannot be used; the code says why.
    """
    header = _inspect(request.path)
    doubt = _Doubt("decord is not here")
    if "decord" in request.decoders and decord is not None:
        try:
            return _with_decord(request, *header)
        except _Doubt as error:
            doubt = error
    if "pyav" not in request.decoders:
        raise VideoError("damaged", str(doubt), where=request.path)
    return _with_pyav(request, doubt)


class _Collector:
    """Turns full frames into square images and thumbnails as they come, and forgets them."""

    def __init__(self, request: DecodeRequest, choice: Choice) -> None:
        side, count = request.image_size, len(choice.indices)
        self.squares = np.empty((sum(map(len, choice.images.values())), side, side, 3), np.uint8)
        self.thumbs: list[bytes] = []
        self._choice = choice
        self._filled = 0
        thumbs = min(count, request.thumbs)
        self._thumb_at = set(np.linspace(0, count - 1, thumbs).round().astype(int).tolist())

    def add(self, frames: UInt8[np.ndarray, "C H W 3"]) -> None:
        """Take the next of the chosen frames."""
        start, self._filled = self._filled, self._filled + len(frames)
        offset, side = 0, self.squares.shape[1]
        for mode, positions in self._choice.images.items():
            low, high = (bisect_left(positions, end) for end in (start, self._filled))
            if high > low:
                mine = frames[[position - start for position in positions[low:high]]]
                self.squares[offset + low : offset + high] = to_square(mine, mode, side)
            offset += len(positions)
        wanted = (i for i in range(start, self._filled) if i in self._thumb_at)
        self.thumbs += [jpeg_thumb(frames[i - start]) for i in wanted]

    def finish(self, pts: Sequence[float], decoder: str, version: str) -> DecodedVideo:
        """All frames came; `pts` are their times."""
        times = tuple(pts[i] for positions in self._choice.images.values() for i in positions)
        chosen, thumbs = self._choice.chosen, tuple(self.thumbs)
        return DecodedVideo(self.squares, times, chosen, decoder, version, thumbs)


def _inspect(path: str) -> tuple[int, int]:
    """How many frames the header declares (0: it does not say), and the bytes of one.

    Raises:
        VideoError: no file, nothing in it, no video container or no video stream.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except IsADirectoryError as error:
        raise VideoError("not-a-video", "a folder", where=path) from error
    except OSError as error:
        raise VideoError("missing", "cannot read the file", where=path, got=error) from error
    if not head:
        raise VideoError("empty", "the file is empty", where=path)
    known = _MAGIC.match(head) is not None
    try:
        with av.open(path) as container:
            stream = _video_stream(container)
            if stream is not None:
                return stream.frames, max(1, stream.width * stream.height * 3)
            if container.streams or not known:
                raise VideoError("no-video-stream", "no video stream in the file", where=path)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        if not known:
            raise VideoError("not-a-video", "not a video file", where=path, got=error) from error
    raise VideoError("truncated", "the container is cut off or its header damaged", where=path)


def _video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    covers = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & covers), None)


def _with_decord(request: DecodeRequest, declared: int, frame_bytes: int) -> DecodedVideo:
    """Decord's frames.

    Raises:
        _Doubt: it failed, libav complained, or the frames look wrong.
    """
    _take_error_lines()
    total, failure = 0, ""
    pts: tuple[float, ...] = ()
    try:
        reader = decord.VideoReader(request.path, ctx=decord.cpu(0), num_threads=1)
        total = len(reader)
        choice = choose_frames(total, request.views)
        indices = choice.indices
        pts = tuple(
            round(float(start), 6) for start in reader.get_frame_timestamp(list(indices))[:, 0]
        )
        collector = _Collector(request, choice)
        chunk = max(1, _CHUNK_BYTES // frame_bytes)
        for start in range(0, len(indices), chunk):
            batch = reader.get_batch(list(indices[start : start + chunk]))
            collector.add(batch.asnumpy())
    except Exception as error:  # decord raises whatever comes to hand
        failure = repr(error)[:200]
    reader = None  # ends its threads, so that all their lines are there
    if failure := _take_error_lines() or failure:
        raise _Doubt(failure, total, pts)
    if total < declared:
        raise _Doubt(f"decord found {total} of {declared} frames")
    if any(later <= earlier for earlier, later in pairwise(pts)):
        raise _Doubt("times of the frames do not rise")
    squares = collector.squares[: len(indices)]
    if len(squares) > 1 and (squares == squares[0]).all():
        # A still video, or a decoder that is stuck.
        raise _Doubt("all frames are the same", total, pts)
    return collector.finish(pts, "decord", decord.__version__)


def _with_pyav(request: DecodeRequest, doubt: _Doubt) -> DecodedVideo:
    """PyAV's frames, strictly decoded; the same ones that decord chose, if it chose any."""
    times = _FrameTimes(request.path)
    choice = choose_frames(len(times.ticks), request.views)
    wanted = [times.ticks[i] for i in choice.indices]
    pts = tuple(round(float(tick * times.seconds), 6) for tick in wanted)
    if doubt.pts:
        times.check_same(pts, doubt)
    failure: Exception = doubt
    # Seeking into an open group of pictures can fail on a sound file; then from the start.
    for seek in (True, False):
        collector = _Collector(request, choice)
        try:
            for frame in _strict_frames(request.path, times, wanted, seek):
                collector.add(frame[None])
            return collector.finish(pts, "pyav", av.__version__)
        except (av.FFmpegError, VideoError) as error:
            failure = error
    code = failure.code if isinstance(failure, VideoError) else "damaged"
    what = f"strict decoding failed ({failure})"
    raise VideoError(code, what, where=request.path, got=str(doubt)) from failure


class _FrameTimes:
    """Presentation times of all frames, from the packets alone.

    Raises:
        VideoError: the packets cannot all be read.
    """

    def __init__(self, path: str) -> None:
        _take_error_lines()
        self.path = path
        packets = []
        try:
            with _open_strict(path) as (container, stream):
                declared = stream.frames
                rate = float(stream.average_rate or 0) or 25.0
                self.seconds = float(stream.time_base or 0)
                for packet in container.demux(stream):
                    if packet.size:
                        packets.append((packet.pts, packet.is_keyframe, packet.is_discard))
        except av.FFmpegError as error:
            raise VideoError(
                "truncated", "cannot read to the end", where=path, got=error
            ) from error
        if (lines := _take_error_lines()) or not packets or len(packets) < declared:
            got = lines or f"{len(packets)} frames"
            raise VideoError("truncated", "the file is cut off", where=path, got=got)
        shown = [(pts, key) for pts, key, discard in packets if not discard]
        self.ticks: list[int] = sorted({pts for pts, _ in shown if pts is not None})
        self.keys: list[int] = sorted(pts for pts, key in shown if key and pts is not None)
        self.timed = len(self.ticks) == len(shown) and self.seconds > 0
        if not self.timed:  # some AVI files: frames have a number and no time
            self.ticks, self.keys, self.seconds = list(range(len(shown))), [], 1 / rate
        self.frame_seconds = 1 / rate

    def check_same(self, pts: Sequence[float], doubt: _Doubt) -> None:
        """Refuse to change frames silently: as many, and each within one frame of decord's time.

        Times count from the first frame: the decoders disagree about where a timeline starts.
        """
        if len(self.ticks) == doubt.total:
            drift = [(a - pts[0]) - (b - doubt.pts[0]) for a, b in zip(pts, doubt.pts, strict=True)]
            if max(map(abs, drift)) <= self.frame_seconds:
                return
        raise VideoError(
            "wrong-frames",
            f"the decoders disagree about the frames ({doubt})",
            where=self.path,
            got=f"pyav {len(self.ticks)} frames, times {pts[0]:.3f}..{pts[-1]:.3f} s",
            wanted=f"decord {doubt.total}, {doubt.pts[0]:.3f}..{doubt.pts[-1]:.3f} s",
        )


def _strict_frames(
    path: str, times: _FrameTimes, wanted: Sequence[int], seek: bool
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames at `wanted` ticks (rising), decoding no more than they need."""
    with _open_strict(path) as (container, stream):
        frames = enumerate(container.decode(stream))
        at, image = -(2**62), np.empty(0, np.uint8)
        for tick in wanted:
            keys_before = bisect_right(times.keys, tick)
            key = times.keys[keys_before - 1] if keys_before > 1 else at
            if seek and key > at:
                container.seek(key, stream=stream, backward=True)
                frames = enumerate(container.decode(stream))
            while at < tick:
                number, frame = next(frames, (0, None))
                if frame is None:
                    raise VideoError("truncated", "frames end early", where=path)
                at = (frame.pts if times.timed else number) or 0
                if at >= tick:
                    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            if at != tick:
                raise VideoError("wrong-frames", "no frame where its packet was", where=path)
            yield image


@contextmanager
def _open_strict(path: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """(container, stream) of a file whose decoder raises on damage instead of concealing it."""
    with av.open(path) as container:
        stream = _video_stream(container)
        if stream is None:
            raise VideoError("no-video-stream", "no video stream in the file", where=path)
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
        yield container, stream


def capture_error_lines() -> None:
    """Read libav's errors back from fd 2, a file that is ours alone and gets emptied."""
    global _captured
    _captured = stat.S_ISREG(os.fstat(2).st_mode)


def _take_error_lines() -> str:
    """libav's first complaint on fd 2 since the last call ("" if none); empties the file."""
    if not _captured:
        return ""
    text = os.pread(2, 4096, 0).decode(errors="replace")
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)
    lines = [re.sub(r" @ 0x[0-9a-f]+", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    return next((line for line in lines if line.startswith("[") and "]" in line), "".join(lines))[
        :200
    ]
