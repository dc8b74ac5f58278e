"""What a container says of its frames, read before any is decoded: the judge of both decoders."""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from jaxtyping import UInt8

from extract.integrity import box_fault, dropped_frames, gif_fault, matroska_fault, packet_fault
from extract.libav import take_error_lines, video_stream
from features.errors import VideoError

_MAGICS = {
    "mov,mp4,m4a,3gp,3g2,mj2": re.compile(rb"....(ftyp|moov|mdat|wide|free|skip|pnot|uuid)", re.S),
    "matroska,webm": re.compile(rb"\x1aE\xdf\xa3"),
    "avi": re.compile(rb"RIFF"),
    "gif": re.compile(rb"GIF8"),
}
_OTHERS = {"mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "rm", "dv", "nut", "ivf", "wtv"}
"""Containers that work and are not examined; bare streams, which have no times, are none."""
_FAULTS: dict[str, Callable[[mmap.mmap], str]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": box_fault,
    "matroska,webm": matroska_fault,
    "gif": gif_fault,
}
_Verdict = TypeVar("_Verdict")
_HEAD = 24
"""Packets enough for the first frame to come out of any decoder."""


class PacketTable:
    """Times, key frames and nature of a file's video stream.

    Raises:
        VideoError: no file, no video in it, or its packets cannot all be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        head = _head(path)
        known = {name for name, magic in _MAGICS.items() if magic.match(head)}
        take_error_lines()
        try:
            with av.open(path) as container:
                name, stream = container.format.name, video_stream(container)
                if name not in known | _OTHERS:
                    code = "damaged" if known else "not-a-video"
                    raise VideoError(code, "no video container", where=path, got=name)
                if stream is not None and stream.codec_context is not None:
                    self._read(container, stream)
                    return
                if container.streams or not _fault(path, name):
                    what = "no video stream of a known codec in the file"
                    raise VideoError("no-video-stream", what, where=path)
        except (av.FFmpegError, UnicodeDecodeError) as error:
            code = "truncated" if known else "not-a-video"
            if isinstance(error, av.EOFError) and known and not _fault(path, known.pop()):
                code = "empty"  # all the headers and not one frame
            raise VideoError(code, "cannot read the container", where=path, got=error) from error
        raise VideoError("truncated", "no streams in the container", where=path)

    def _read(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        context = stream.codec_context
        context.thread_type, context.thread_count = "NONE", 1
        self.container = container.format.name
        contexts = (s.codec_context for s in container.streams if s is not stream)
        self.others = {other.name for other in contexts if other} - {context.name}
        self.codec, self.pix_fmt = context.codec.canonical_name, context.pix_fmt or ""
        self.width, self.height = context.width, context.height
        extra = context.extradata or b""
        packets: list[tuple[int | None, bool]] = []
        head: list[av.packet.Packet[av.VideoStream]] = []
        hidden, fault = 0, ""
        # AVI's only times are those of places in the file; libav makes its own of them.
        avi, guessed = self.container == "avi", False
        for packet in container.demux(stream):
            if not packet.size:
                continue
            data = memoryview(packet)
            fault = fault or packet_fault(bytes(data), self.codec, extra)
            if packet.is_corrupt:
                fault = fault or "libav calls a packet corrupt"
            if packet.is_discard or (self.codec == "vp8" and not data[0] & 0x10):
                hidden += 1  # before an edit list's start, or VP8's reference that is never shown
            else:
                packets.append((packet.dts if avi else packet.pts, packet.is_keyframe))
                guessed = guessed or (avi and packet.pts != packet.dts)
            if len(head) < _HEAD:
                head.append(packet)
        if hidden and not packets:
            fault = fault or "no frame is to be shown"
        declared = stream.frames
        if avi:
            chunks = [(entry.pos, entry.size) for entry in stream.index_entries]
            declared -= _mapped(self.path, lambda data: dropped_frames(data, stream.index, chunks))
        self._refuse(declared, len(packets) + hidden, fault)
        own = not (guessed or (avi and context.has_b_frames))
        self._times(packets, stream, own)
        frame = _first_frame(head)
        self.turn = (False, 1, 1) if frame is None else _turn(frame)
        self.interlaced = frame is not None and frame.interlaced_frame

    def _refuse(self, declared: int, count: int, fault: str) -> None:
        """Raise for what is missing or wrong."""
        lines, missing = take_error_lines(self.others), count < max(declared, 1)
        if not lines:
            fault = _fault(self.path, self.container) or fault
        if not (lines or fault or missing):
            return
        code = "damaged"
        if missing or (lines and not declared):
            code = "truncated" if declared or count or lines or fault else "empty"
        got, wanted = f"{count} frames; {lines}", declared or None
        what = fault or "the video stream is not whole"
        raise VideoError(code, what, where=self.path, got=got, wanted=wanted)

    def _times(
        self, packets: list[tuple[int | None, bool]], stream: av.VideoStream, own: bool
    ) -> None:
        """The frames' times; `own`: a decoded frame bears the time of its packet."""
        rate = float(stream.average_rate or 0) or 25.0
        seconds = float(stream.time_base or 0)
        self.ticks: list[int] = sorted({pts for pts, _ in packets if pts is not None})
        self.keys: list[int] = sorted(pts for pts, key in packets if key and pts is not None)
        self.open_gop, last_key = False, -(2**62)
        for pts, key in packets:
            if pts is not None:
                self.open_gop = self.open_gop or pts < last_key
                last_key = pts if key else last_key
        unlike = len(self.ticks) == len(packets) and seconds > 0
        steps = self.ticks if unlike else range(len(packets))
        self._times_s = [step * (seconds if unlike else 1 / rate) for step in steps]
        self.timed = unlike and own
        if not self.timed:  # frames are found by their number
            self.ticks, self.keys = list(range(len(packets))), []

    def pts(self, indices: list[int]) -> tuple[float, ...]:
        """Seconds from the first frame to each of the frames at `indices`."""
        return tuple(round(self._times_s[i] - self._times_s[0], 6) for i in indices)

    def why_not_decord(self) -> str:
        """What decord gets wrong with such a file, or converts in a way of its own; "" if nothing.

        Measured with decord 0.6.0 against a plain decode.
        """
        if self.container in _OTHERS or self.codec not in {"h264", "hevc", "mpeg4", "vp8"}:
            return f"decord is not trusted with {self.codec} in {self.container}"
        odd = self.width % 2 or self.height % 2
        if odd or self.interlaced or self.pix_fmt not in {"yuv420p", "yuvj420p"}:
            return "decord makes other colours of such pixels"
        if self.open_gop:
            return "decord miscounts frames after seeking to a key frame that others precede"
        if not self.timed or self.turn != (False, 1, 1):
            return "decord ignores the rotation, or finds no times"
        return ""

    def upright(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """The RGB image of a decoded frame, as a player shows it."""
        image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        swap, across, down = self.turn
        image = image.transpose(1, 0, 2) if swap else image
        return np.ascontiguousarray(image[::down, ::across])


def check_digest(path: str, sha256: str) -> None:
    """Refuse a file whose sha256 (hexadecimal) is another one.

    Raises:
        VideoError: it is, or there is no such file.
    """
    try:
        with open(path, "rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VideoError("missing", "cannot read the file", where=path, got=error) from error
    if got != sha256.lower():
        what = "the file is not the one its checksum was made from"
        raise VideoError("damaged", what, where=path, got=got, wanted=sha256)


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            head = file.read(16)
    except IsADirectoryError as error:
        raise VideoError("not-a-video", "a folder", where=path) from error
    except OSError as error:
        raise VideoError("missing", "cannot read the file", where=path, got=error) from error
    if not head:
        raise VideoError("empty", "the file is empty", where=path)
    return head


def _fault(path: str, container: str) -> str:
    """What is wrong with the structure of a file of this container; "" for nothing."""
    return _mapped(path, _FAULTS[container]) if container in _FAULTS else ""


def _mapped(path: str, judge: Callable[[mmap.mmap], _Verdict]) -> _Verdict:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return judge(data)


def _first_frame(head: list[av.packet.Packet[av.VideoStream]]) -> av.VideoFrame | None:
    try:
        return next(frame for packet in head for frame in packet.decode())
    except (av.FFmpegError, StopIteration):
        return None  # the strict decoder will say why


def _turn(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """(swap axes, step along rows, along columns) that put the stored picture upright.

    Raises:
        VideoError: the display matrix asks for more than quarter turns and mirrors.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, 1, 1
    a, b, _, c, d = (int(number) for number in np.frombuffer(matrix, np.int32)[:5])
    swap = abs(b) > abs(a)
    if swap:
        a, d, b, c = c, b, a, d
    if 50 * max(abs(b), abs(c)) > min(abs(a), abs(d)):
        raise VideoError("damaged", "rotated by no quarter turn", got=[a, b, c, d])
    return swap, 1 if a > 0 else -1, 1 if d > 0 else -1
