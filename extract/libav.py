"""What libav complains about: its error lines, read back from fd 2."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection

import av

_captured = False
av.logging.restore_default_callback()  # libav's errors to fd 2, where we count them
av.logging.set_libav_level(av.logging.ERROR)


def capture_error_lines() -> None:
    """Read libav's errors back from fd 2, a file that is ours alone and gets emptied."""
    global _captured
    _captured = stat.S_ISREG(os.fstat(2).st_mode)


def take_error_lines(deaf_to: Collection[str] = ()) -> str:
    """libav's first complaint on fd 2 since the last call ("" if none); empties the file.

    Args:
        deaf_to: names of decoders that may complain, those of sound above all.
    """
    if not _captured:
        return ""
    text = os.pread(2, 2**16, 0).decode(errors="replace")
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)
    lines = [re.sub(r" @ 0x[0-9a-f]+", "", line).strip() for line in text.splitlines()]
    others = ("Last message repeated", *(f"[{name}]" for name in deaf_to))
    lines = [line for line in lines if line and not line.startswith(others)]
    return next((line for line in lines if line.startswith("[") and "]" in line), "".join(lines))[
        :200
    ]


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream that is not a cover picture."""
    covers = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & covers), None)
