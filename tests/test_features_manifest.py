from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import AnnotationError
from features.manifest import load_checksums


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("abc  a.mp4", "line 2 .*abc"),
        ("{} a.mp4", "line 2"),
        ("{}  /abs/a.mp4", "line 2"),
        ("{}  ../a.mp4", "line 2"),
        ("{}  a.txt", "line 2"),
        ("{}  one.mkv", "second checksum for one video .*line 2 .*got: one"),
    ],
)
def test_a_malformed_checksum_says_where(line: str, words: str, tmp_path: Path) -> None:
    digest = "0123456789abcdef" * 4
    path = tmp_path / "sums.txt"
    path.write_text(f"{digest.upper()}  ./one.mp4\n")
    assert load_checksums(path) == {"one": digest}
    path.write_text(f"{digest}  one.mp4\n" + line.format(digest))
    with pytest.raises(AnnotationError, match=words):
        load_checksums(path)
    path.write_text("\n")
    with pytest.raises(AnnotationError, match="no checksums"):
        load_checksums(path)
