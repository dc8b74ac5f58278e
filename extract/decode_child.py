"""Decoding where it can be killed: a long-lived child process behind two pipes.

A damaged file can crash a native decoder or make it spin for ever with signals ignored, and it
could even own the process. So the child answers in JSON and raw bytes whose sizes are checked
before anything is read, and nothing it sends is unpickled. Its deadline counts CPU seconds
(RLIMIT_CPU, raised before every video), which a busy machine cannot shorten; wall clock is a far
larger net for a child that sleeps.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, BinaryIO

import numpy as np

from extract.video import DecodedVideo, DecodeRequest, View
from features.errors import VideoError

CHILD = (sys.executable, "-m", "extract.decode_child")
WALL_FACTOR = 10.0
"""Wall-clock seconds allowed for every CPU second of a deadline."""
_LENGTH = struct.Struct("<I")
_MAX_JSON = 2**20
_MAX_THUMB = 2**18
_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)


class _ChildError(Exception):
    """The child died, was silent for too long or answered nonsense."""

    def __init__(self, what: str, native: bool = True, code: str = "crashed") -> None:
        super().__init__(what)
        self.native = native
        """Whether the file is to blame, rather than somebody who killed the child."""
        self.code = code


class DecodeChild:
    """A decoding process of one's own; not for use by two threads at once.

    Args:
        command: the program that answers; another one in tests.
        wall_factor: wall-clock seconds allowed for every CPU second of a deadline.
        idle: take only the CPU time that nobody else wants.
    """

    def __init__(
        self,
        command: Sequence[str] = CHILD,
        wall_factor: float = WALL_FACTOR,
        idle: bool = False,
    ) -> None:
        self._idle = idle
        self._command = command
        self._wall_factor = wall_factor
        self._process: subprocess.Popen[bytes] | None = None
        self._wall_end = 0.0
        self._stopped = False

    def decode(self, request: DecodeRequest) -> DecodedVideo:
        """Decode one video, in a new child when the last one died.

        A child that somebody else killed gets the video once more; when a decoder crashed or hung,
        the other decoders get their chance, under a deadline of their own.

        Raises:
            VideoError: the video cannot be used; the code says why.
        """
        first = self._try(request)
        if isinstance(first, DecodedVideo):
            return first
        rest = request.decoders[1:] if first.native else request.decoders
        second = self._try(replace(request, decoders=rest)) if rest else first
        if isinstance(second, DecodedVideo):
            return second
        got = second if second is first else f"{first}; then {second}"
        what = f"the decoder {'hung' if second.code == 'timeout' else 'crashed'}"
        raise VideoError(second.code, what, where=request.path, got=got)

    def stop(self) -> None:
        """Kill the child, for good, from any thread: a decode under way fails at once."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the child and let go of its pipes; not while another thread decodes."""
        self.stop()
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def __enter__(self) -> DecodeChild:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, request: DecodeRequest) -> DecodedVideo | _ChildError:
        self._wall_end = time.monotonic() + request.deadline_s * self._wall_factor
        process = self._process = self._process or self._spawn()
        try:
            _send(process.stdin, asdict(request))
            return self._receive(request)
        except (_ChildError, OSError, TimeoutError, EOFError) as error:
            late = isinstance(error, TimeoutError)
            process.kill()
            process.communicate()
            self._process = None
            if late or process.returncode == -signal.SIGXCPU:
                limit = f"no answer within {request.deadline_s} CPU seconds"
                return _ChildError(limit, code="timeout")
            if isinstance(error, _ChildError):
                return error
            return _describe_death(process.returncode)

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._stopped:
            raise RuntimeError("this child was stopped")
        # A session of its own: Ctrl-C is for us to handle. It ends with our end of its stdin.
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        if self._idle and hasattr(os, "SCHED_IDLE"):
            with suppress(OSError):  # gone already: the next read finds out
                os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
        return process

    def _receive(self, request: DecodeRequest) -> DecodedVideo:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > _MAX_JSON:
            raise _ChildError(f"an answer of {length} bytes")
        try:
            answer = json.loads(self._read(length))
            if "code" in answer:
                raise VideoError(str(answer["code"]), str(answer["message"]))
            return self._read_video(answer, request)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, VideoError):
                raise
            raise _ChildError(f"an answer that makes no sense ({error!r})") from error

    def _read_video(self, answer: dict[str, Any], request: DecodeRequest) -> DecodedVideo:
        pts = tuple(float(time) for time in answer["pts"])
        chosen = tuple(tuple(int(image) for image in view) for view in answer["chosen"])
        sizes = [int(size) for size in answer["thumbs"]]
        count = len(pts)
        wanted = [view.num_frames for view in request.views]
        sane = (
            1 <= count <= sum(wanted)
            and len(sizes) <= request.thumbs
            and all(0 < size <= _MAX_THUMB for size in sizes)
            and len(chosen) == len(wanted)
            and all(1 <= len(v) <= most for v, most in zip(chosen, wanted, strict=True))
            and {image for view in chosen for image in view} == set(range(count))
        )
        if not sane:
            raise ValueError(f"{count} images and thumbnails of {sizes} bytes")
        shape = (count, request.image_size, request.image_size, 3)
        pixels = self._read(int(np.prod(shape)))
        frames = np.frombuffer(pixels, np.uint8).reshape(shape)
        thumbs = tuple(bytes(self._read(size)) for size in sizes)
        decoder, version = str(answer["decoder"]), str(answer["decoder_version"])
        seconds = float(answer["cpu_seconds"])
        return DecodedVideo(frames, pts, chosen, decoder, version, thumbs, seconds)

    def _read(self, size: int) -> bytearray:
        """Exactly `size` bytes from the child.

        Raises:
            EOFError: the child is gone.
            TimeoutError: the wall-clock net caught it.
        """
        process = self._process
        if process is None or process.stdout is None:
            raise EOFError
        handle, data, done = process.stdout.fileno(), bytearray(size), 0
        while done < size:
            left = self._wall_end - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise TimeoutError
            count = os.readv(handle, [memoryview(data)[done:]])
            if count == 0:
                raise EOFError
            done += count
        return data


def _describe_death(returncode: int) -> _ChildError:
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"exit code {returncode}"
    return _ChildError(f"decoding process ended by {name}", native=-returncode not in _OUTSIDE)


def _send(stream: BinaryIO | Any, record: dict[str, Any], *blobs: bytes | memoryview) -> None:
    data = json.dumps(record).encode()
    for blob in (_LENGTH.pack(len(data)) + data, *blobs):
        stream.write(blob)
    stream.flush()


def _limit_cpu(seconds: int) -> None:
    """Let the kernel kill us after so many more CPU seconds, even in a native loop."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime) + 1 + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (end if hard < 0 else min(end, hard), hard))


def _answer(request: DecodeRequest, stream: BinaryIO) -> None:
    from extract.decode import decode_video

    start = time.process_time()
    try:
        video = decode_video(request)
    except VideoError as error:
        _send(stream, {"code": error.code, "message": str(error)[:2000]})
        return
    except Exception as error:  # a library's surprise or our own mistake: the next video can go on
        _send(stream, {"code": "crashed", "message": f"{request.path}: {error!r}"[:2000]})
        return
    record = {
        "pts": video.pts,
        "chosen": video.chosen,
        "decoder": video.decoder,
        "decoder_version": video.decoder_version,
        "thumbs": [len(thumb) for thumb in video.thumbs],
        "cpu_seconds": time.process_time() - start,
    }
    _send(stream, record, video.frames.data, *video.thumbs)


def serve() -> None:
    """Answer requests from stdin until it ends; the child's side."""
    import resource

    from extract.libav import capture_error_lines

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Native code prints to fd 1 as it likes; the answers go through a copy of our own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    capture_error_lines()
    while head := sys.stdin.buffer.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        asked = json.loads(sys.stdin.buffer.read(length))
        views = tuple(View(**view) for view in asked.pop("views"))
        request = DecodeRequest(**asked, views=views)
        request = replace(request, decoders=tuple(request.decoders))
        _limit_cpu(request.deadline_s)
        _answer(request, answers)


if __name__ == "__main__":
    serve()
