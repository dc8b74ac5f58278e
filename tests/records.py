"""Comparing records of numbers."""

from __future__ import annotations

from typing import Any

import pytest


def same(found: Any, wanted: Any) -> bool:
    """Equal dataclasses of one kind; their floats up to rounding."""
    near = {k: pytest.approx(v) if isinstance(v, float) else v for k, v in vars(wanted).items()}
    return type(found) is type(wanted) and vars(found) == near
