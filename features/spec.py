"""FeatureSpec: everything that decides the numbers in a store, and its fingerprint.

Two stores with the same fingerprint were *asked* for the same features. What was *got* is the
content digest (features/store.py).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from features.errors import FingerprintError, StoreError

Preprocessing = Literal[
    "squash-nearest",
    "crop-bicubic",
    "pad-bicubic",
    "squash-bicubic",
    "squash-bilinear",
    "squash-lanczos",
]
Normalisation = Literal["clip", "half", "imagenet"]
ComputeDtype = Literal["float32", "float16", "bfloat16"]
StoreDtype = Literal["float16", "float32"]

SCHEMA_VERSION = 1
"""Version of every file this project writes; readers refuse a newer one."""

NUMERICS_VERSION = 2
"""Raise whenever the extraction code changes a stored number."""

IMPORTED = "imported"
"""Stands in a spec where nobody knows: `tower: imported:<whose>` was never extracted here."""


@dataclass(frozen=True)
class FeatureSpec:
    """What was asked of the extractor. All fields are part of the fingerprint."""

    tower: str
    """Vision tower, as the base names it (`checkpoint`, `clip:<folder>`, ...)."""
    weights_digest: str
    """sha256 over the tower's tensors (names, shapes, bytes), sorted by name."""
    image_size: int
    """Side of the square image given to the tower, in pixels."""
    preprocessing: Preprocessing
    """How a frame becomes a square image."""
    num_frames: int
    """T: frames sampled a video."""
    normalisation: Normalisation = "clip"
    """Whose mean and spread are taken out of the pixels (half: 0.5 and 0.5)."""
    layer: int = -2
    """Which hidden state is taken, counted as in transformers: -2 is the last but one block."""
    sampler: Literal["midpoint"] = "midpoint"
    """Which frames: the midpoints of T equal segments."""
    decoder_policy: str = "pyav>decord"
    """Decoders in the order they are tried."""
    regrouping: int = 1
    """Side of the square of patches joined into one token before pooling (1: none)."""
    compute_dtype: ComputeDtype = "float32"
    """dtype of the tower's arithmetic."""
    store_dtype: StoreDtype = "float16"
    """dtype on disk."""
    numerics: int = NUMERICS_VERSION
    """Version of the extraction code's numerics."""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the canonical JSON of all fields."""
        return record_digest(asdict(self))

    def to_dict(self) -> dict[str, Any]:
        """The fields plus schema version and fingerprint, as written to spec.json."""
        return {"schema": SCHEMA_VERSION, "fingerprint": self.fingerprint, **asdict(self)}

    @classmethod
    def from_dict(cls, record: dict[str, Any], where: object = "spec.json") -> FeatureSpec:
        """Read `to_dict`'s form back.

        Raises:
            StoreError: another schema version, an unknown field, or a fingerprint that does not
                match the fields.
        """
        check_schema(record, where)
        known = {field.name for field in fields(cls)}
        given = {k: v for k, v in record.items() if k not in ("schema", "fingerprint")}
        if set(given) - known:
            raise StoreError("unknown field in a spec", where=where, got=sorted(set(given) - known))
        spec = cls(**given)
        if record.get("fingerprint") not in (None, spec.fingerprint):
            raise StoreError(
                "spec and fingerprint do not match",
                where=where,
                got=record["fingerprint"],
                wanted=spec.fingerprint,
                do="the file was edited by hand; restore it or extract again",
            )
        return spec


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no blanks: the text that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def record_digest(value: object) -> str:
    """sha256 (hex) over a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def check_schema(record: dict[str, Any], where: object) -> None:
    """Refuse a file written by another schema version with a clear migration message."""
    version = record.get("schema")
    if version != SCHEMA_VERSION:
        raise StoreError(
            "file written by another schema version",
            where=where,
            got=version,
            wanted=SCHEMA_VERSION,
            do="use the release that wrote it, or make the file again with this one",
        )


def require_same(what: str, ours: str, theirs: str, *, ours_is: str, theirs_is: str) -> None:
    """Refuse to go on when two digests or fingerprints that must be equal differ."""
    if ours != theirs:
        raise FingerprintError(
            f"{what} differs",
            got=f"{theirs_is}: {theirs[:16]}",
            wanted=f"{ours_is}: {ours[:16]}",
            do=f"use the same {what} on both sides, or make the later artefact again",
        )
