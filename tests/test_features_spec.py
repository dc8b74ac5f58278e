from __future__ import annotations

import hashlib
import json
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any

import pytest

from features.errors import FingerprintError, StoreError
from features.spec import FeatureSpec, canonical_json, require_same

SPEC = FeatureSpec("checkpoint", "ab" * 32, 336, "crop-bicubic", 100)
OTHER: dict[str, Any] = {
    "tower": "open_clip:ViT-B-32:openai",
    "weights_digest": "cd" * 32,
    "image_size": 224,
    "normalisation": "half",
    "preprocessing": "squash-nearest",
    "num_frames": 50,
    "layer": -1,
    "decoder_policy": "pyav",
    "regrouping": 2,
    "compute_dtype": "bfloat16",
    "store_dtype": "float32",
    "numerics": SPEC.numerics + 1,
}


def test_every_field_that_can_differ_is_covered() -> None:
    assert {field.name for field in fields(FeatureSpec)} - set(OTHER) == {"sampler"}


@pytest.mark.parametrize("name", OTHER)
def test_fingerprint_changes_with_every_field(name: str) -> None:
    assert replace(SPEC, **{name: OTHER[name]}).fingerprint != SPEC.fingerprint


def test_fingerprint_is_sha256_of_canonical_json() -> None:
    shuffled = dict(reversed(asdict(SPEC).items()))
    text = json.dumps(shuffled, sort_keys=True, separators=(",", ":"))
    assert SPEC.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'


def test_spec_is_frozen_and_survives_its_file() -> None:
    with pytest.raises(FrozenInstanceError):
        SPEC.num_frames = 1  # type: ignore[misc]
    assert FeatureSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


def test_edited_file_is_refused() -> None:
    record = {**SPEC.to_dict(), "num_frames": 50}
    with pytest.raises(StoreError, match=r"do not match.*here/spec\.json.*edited by hand"):
        FeatureSpec.from_dict(record, "here/spec.json")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_schema_is_refused_with_what_to_do(version: object) -> None:
    with pytest.raises(StoreError, match=r"another schema version.*wanted: 1.*use the rel"):
        FeatureSpec.from_dict({**SPEC.to_dict(), "schema": version})


def test_unknown_field_is_refused() -> None:
    with pytest.raises(StoreError, match=r"unknown field.*colour"):
        FeatureSpec.from_dict({**SPEC.to_dict(), "colour": "red"})


def test_require_same_names_both_sides() -> None:
    require_same("fingerprint", "a", "a", ours_is="store", theirs_is="checkpoint")
    with pytest.raises(FingerprintError, match=r"got: checkpoint: bb.*wanted: store: aa"):
        require_same("fingerprint", "aa", "bb", ours_is="store", theirs_is="checkpoint")
