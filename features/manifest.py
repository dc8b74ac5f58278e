"""The sha256 of video files, from a list as `sha256sum` writes it.

find . -type f -name '*.mp4' -exec sha256sum {} + > ../checksums.txt     (in the videos folder)
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from features.errors import AnnotationError
from features.plan import VIDEO_SUFFIXES

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def load_checksums(path: Path) -> dict[str, str]:
    """sha256 (hex, lower case) by video id; ids are those of `find_videos`.

    Raises:
        AnnotationError: no such file, or a line that is not `<sha256>  <path of a video below the
            videos folder>`, or two lines for one id.
    """
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError("cannot read the checksums", where=path, got=error) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        match = _LINE.fullmatch(line)
        name = PurePosixPath(match[2] if match else "")
        inside = not name.is_absolute() and ".." not in name.parts
        if match is None or not inside or name.suffix.lower() not in VIDEO_SUFFIXES:
            wanted = "<64 hex digits>  <path of a video below the videos folder>"
            got = line[:100]
            raise AnnotationError("not a video's checksum", where=where, got=got, wanted=wanted)
        video_id = name.with_suffix("").as_posix()
        if video_id in found:
            raise AnnotationError("a second checksum for one video", where=where, got=video_id)
        found[video_id] = match[1].lower()
    if not found:
        raise AnnotationError("no checksums in the file", where=path)
    return found
