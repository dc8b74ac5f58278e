"""From a video file to sampled frames, or to the reason why not. Runs in the decoding child.

libav conceals damage: it hands out a plausible wrong frame, with a line on stderr or without one.
So the container's own table of packets is read first, and PyAV decodes strictly (one thread,
`err_detect`, no frame that libav marked as corrupt): each frame at the time of its packet, or a
failure. It decodes no more than the frames need, so the verdict does not depend on how far a
decoder's threads read ahead.

decord is for what crashes or hangs PyAV. It sees no marks: of real-size H.264 copies with five
flipped bits it passes one in five, PyAV none of 40. So its frames count only while they agree with
the table and libav stayed silent, and never for files that it shows otherwise than a player would.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import av
import numpy as np
from jaxtyping import UInt8

from extract.libav import take_error_lines, video_stream
from extract.packets import PacketTable, check_digest
from extract.preprocess import jpeg_thumb, to_square
from extract.sampling import Choice, choose_frames
from extract.video import DecodedVideo, DecodeRequest
from features.errors import VideoError

try:
    import decord
except ImportError:  # no wheel for this platform
    decord = None

_CHUNK_BYTES = 64 * 2**20
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_TIME_ERROR = 0.005
"""Seconds; decord's times are 32-bit floats."""


class _Doubt(Exception):  # noqa: N818 - not an error yet
    """Why decord's frames are not good enough."""


def decode_video(request: DecodeRequest) -> DecodedVideo:
    """Sample, decode and preprocess one video.

    Concealed damage is only seen after `capture_error_lines()`, as in the decoding child.

    Raises:
        VideoError: the video cannot be used; the code says why.
    """
    if request.sha256:
        check_digest(request.path, request.sha256)
    table = PacketTable(request.path)
    choice = choose_frames(len(table.ticks), request.views)
    doubt = ""
    for decoder in request.decoders:
        if decoder == "pyav":
            return _with_pyav(request, table, choice, doubt)
        try:
            return _with_decord(request, table, choice)
        except _Doubt as error:
            doubt = str(error)
    # Nobody asks decord alone unless PyAV died of the file.
    code = "crashed" if decord is None or table.why_not_decord() else "damaged"
    raise VideoError(code, "PyAV died and decord did not help", where=request.path, got=doubt)


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


def _with_decord(request: DecodeRequest, table: PacketTable, choice: Choice) -> DecodedVideo:
    """Decord's frames.

    Raises:
        _Doubt: it failed, libav complained, or the frames are not those of the table.
    """
    why_not = "decord is not here" if decord is None else table.why_not_decord()
    if why_not:
        raise _Doubt(why_not)
    take_error_lines()
    indices, failure = list(choice.indices), ""
    pts = table.pts(indices)
    collector = _Collector(request, choice)
    try:
        reader = decord.VideoReader(request.path, ctx=decord.cpu(0), num_threads=1)
        if len(reader) != len(table.ticks):
            raise _Doubt(f"decord found {len(reader)} of {len(table.ticks)} frames")
        times = reader.get_frame_timestamp(indices)[:, 0]
        if not np.allclose(times, pts, rtol=1e-6, atol=_TIME_ERROR):
            raise _Doubt("decord's times are not those of the packets")
        chunk = max(1, _CHUNK_BYTES // (table.width * table.height * 3))
        for start in range(0, len(indices), chunk):
            collector.add(reader.get_batch(indices[start : start + chunk]).asnumpy())
    except Exception as error:  # decord raises whatever comes to hand
        failure = str(error) if isinstance(error, _Doubt) else repr(error)[:200]
    reader = None  # ends its threads, so that all their lines are there
    if failure := take_error_lines(table.others) or failure:
        raise _Doubt(failure)
    squares = collector.squares[: len(indices)]
    if len(squares) > 1 and (squares == squares[0]).all():
        raise _Doubt("all frames are the same")  # a still video, or a decoder that is stuck
    return collector.finish(pts, "decord", decord.__version__)


def _with_pyav(
    request: DecodeRequest, table: PacketTable, choice: Choice, doubt: str
) -> DecodedVideo:
    """PyAV's frames, strictly decoded."""
    failure: Exception | None = None
    # Seeking into an open group of pictures can fail on a sound file; then from the start.
    for seek in (True, False):
        collector = _Collector(request, choice)
        try:
            for image in _strict_frames(table, [table.ticks[i] for i in choice.indices], seek):
                collector.add(image[None])
            return collector.finish(table.pts(list(choice.indices)), "pyav", av.__version__)
        except (av.FFmpegError, VideoError) as error:
            failure = error
    code = failure.code if isinstance(failure, VideoError) else "damaged"
    what = f"strict decoding failed ({failure})"
    raise VideoError(code, what, where=request.path, got=doubt or None) from failure


def _strict_frames(
    table: PacketTable, wanted: Sequence[int], seek: bool
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames at `wanted` ticks (rising), decoding no more than they need."""
    with _open_strict(table) as (container, stream, codec):
        frames = _decoded(container, stream, codec)
        at, image = -(2**62), np.empty(0, np.uint8)
        for tick in wanted:
            keys_before = bisect_right(table.keys, tick)
            key = table.keys[keys_before - 1] if keys_before > 1 else at
            if seek and key > at:
                container.seek(key, stream=stream, backward=True)
                codec.flush_buffers()
                frames = _decoded(container, stream, codec, key)
            while at < tick:
                number, frame = next(frames, (0, None))
                if frame is None:
                    raise VideoError("truncated", "frames end early", where=table.path)
                at = (frame.pts if table.timed else number) or 0
                if at >= tick:
                    image = table.upright(frame)
            if at != tick:
                raise VideoError("wrong-frames", "no frame where its packet was", where=table.path)
            yield image


def _decoded(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    codec: av.VideoCodecContext,
    since: int = -(2**62),
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) from where the container stands, without those shown before `since`.

    What is shown before a key frame and stored after it needs frames that a seek left out.

    Raises:
        VideoError: libav marked a frame as corrupt.
        av.FFmpegError: it could not decode one.
    """
    packets = (p for p in container.demux(stream) if p.pts is None or p.pts >= since)
    frames = (frame for packet in packets for frame in codec.decode(packet))
    for number, frame in enumerate(frames):
        if frame.is_corrupt:
            raise VideoError("damaged", "libav marked a frame as corrupt")
        yield number, frame


@contextmanager
def _open_strict(
    table: PacketTable,
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream, av.VideoCodecContext]]:
    """A file whose decoder raises on damage instead of concealing it."""
    with av.open(table.path) as container:
        stream = video_stream(container)
        if stream is None:
            raise VideoError("no-video-stream", "no video stream in the file", where=table.path)
        codec = stream.codec_context
        if table.codec == "vp9" and "p1" not in table.pix_fmt:
            # libav's own VP9 decoder notices nothing; libvpx checks where each tile ends. The one
            # that PyAV ships cannot do more than 8 bits (yuv420p10le).
            codec = av.CodecContext.create("libvpx-vp9", "r")
        codec.thread_type, codec.thread_count, codec.options = "NONE", 1, _STRICT
        yield container, stream, codec
