from __future__ import annotations

import numpy as np
import pytest

from extract.sampling import midpoint_indices


def baseline(total: int, wanted: int) -> list[int]:
    """The published rule, written with numpy."""
    n = min(total, wanted)
    seg = float(total - 1) / n
    edges = np.round(seg * np.arange(n + 1)).astype(int)
    return [int((edges[i] + edges[i + 1]) // 2) for i in range(n)]


@pytest.mark.parametrize("wanted", [1, 2, 8, 50, 100])
def test_equals_the_baselines_rule(wanted: int) -> None:
    for total in [*range(1, 260), 299, 431, 1000, 54_321]:
        indices = midpoint_indices(total, wanted)
        assert indices == baseline(total, wanted)
        assert len(indices) == min(total, wanted)
        assert indices == sorted(indices)
        assert 0 <= indices[0] <= indices[-1] < total


def test_known_values() -> None:
    assert midpoint_indices(32, 8) == [2, 6, 10, 14, 17, 21, 25, 29]
    assert midpoint_indices(1, 8) == [0]
    assert midpoint_indices(2, 8) == [0, 0]  # the rule repeats a frame here; so did the baseline


@pytest.mark.parametrize(("total", "wanted"), [(0, 8), (8, 0)])
def test_nothing_to_sample(total: int, wanted: int) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        midpoint_indices(total, wanted)
