"""Where the page finds the videos themselves, as addresses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from features.plan import load_plan
from features.store import FeatureStore


def video_paths(
    videos: Sequence[str], store: FeatureStore | None, folder: Path
) -> list[str | None]:
    """An address of each video's file for a page in `folder`; None where there is no file now.

    The files are where the extraction found them. Addresses are relative, so that they hold as long
    as page and videos move together, and file URLs where that cannot be (another drive).
    """
    if store is None:
        return [None] * len(videos)
    planned = load_plan(store.path).latest()
    paths = [planned[video].path if video in planned else "" for video in videos]
    return [address(Path(path), folder) if path else None for path in paths]


def address(path: Path, folder: Path) -> str | None:
    """Where a page in `folder` finds a file; None where there is none now."""
    path = path.absolute()
    try:
        if not path.is_file():
            return None
        return quote(Path(os.path.relpath(path, folder.absolute())).as_posix())
    except ValueError:
        return path.as_uri()
    except OSError:
        return None
