"""The one way this project tells a user that something is wrong.

Every error a user can cause carries five facts (what, where, got, wanted, what to do), so that the
command line can print one useful line instead of a traceback.
"""

from __future__ import annotations


class RedVillmError(ValueError):
    """Base of all errors a user or their data can cause; printed as one line, exit code 2."""

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        wanted: object = None,
        do: str | None = None,
    ) -> None:
        parts = [what]
        if where is not None:
            parts.append(f"where: {where}")
        if got is not None:
            parts.append(f"got: {got}")
        if wanted is not None:
            parts.append(f"wanted: {wanted}")
        if do is not None:
            parts.append(f"do: {do}")
        super().__init__(" | ".join(parts))
        self.what = what


class ConfigError(RedVillmError):
    """A recipe, option or environment variable is wrong."""


class AnnotationError(RedVillmError):
    """An annotation file is missing, malformed or contradicts itself."""


class StoreError(RedVillmError):
    """A feature store is missing, damaged or used wrongly."""


class FingerprintError(RedVillmError):
    """Two artefacts that must come from the same spec do not."""


class CheckpointError(RedVillmError):
    """A base or a trained checkpoint is missing, incomplete or of another kind."""


class VideoError(RedVillmError):
    """One video cannot be used; `code` becomes the status of its row.

    Codes: missing, empty, not-a-video, no-video-stream, truncated, damaged, timeout, crashed,
    wrong-frames, non-finite.
    """

    def __init__(self, code: str, what: str, **facts: object) -> None:
        super().__init__(what, **facts)  # type: ignore[arg-type]
        self.code = code

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return VideoError, (self.code, str(self))


def few(names: list[str], count: int = 5) -> str:
    """The first of many names, for a message."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
