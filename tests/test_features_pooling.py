from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigError
from features.pooling import spatial_features, temporal_features, window_pool


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pooling_accumulates_in_float32(dtype: torch.dtype) -> None:
    x = (torch.randn(5, 576, 8, generator=torch.Generator().manual_seed(0)) + 30).to(dtype)
    exact = x.double().numpy()
    temporal, spatial = temporal_features(x), spatial_features(x)
    assert temporal.dtype == spatial.dtype == torch.float32
    np.testing.assert_allclose(temporal.numpy(), exact.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(spatial.numpy(), exact.mean(axis=0), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    cells=st.integers(1, 4),
    window=st.integers(1, 4),
    width=st.integers(1, 3),
    batch=st.lists(st.integers(1, 3), max_size=2),
)
def test_window_pool_is_the_mean_of_each_window(
    cells: int, window: int, width: int, batch: list[int]
) -> None:
    side = cells * window
    x = torch.randn(*batch, side * side, width, generator=torch.Generator().manual_seed(side))
    found = window_pool(x, window)
    assert found.shape == (*batch, cells * cells, width)
    grid = x.double().numpy().reshape(*batch, side, side, width)
    for i in range(cells):
        for j in range(cells):
            rows, columns = slice(i * window, (i + 1) * window), slice(j * window, (j + 1) * window)
            wanted = grid[..., rows, columns, :].mean(axis=(-3, -2))
            np.testing.assert_allclose(found[..., i * cells + j, :], wanted, atol=1e-6)


def test_window_pool_commutes_with_the_mean_over_time() -> None:
    x = torch.randn(7, 16, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        window_pool(spatial_features(x), 2), spatial_features(window_pool(x, 2))
    )


@pytest.mark.parametrize(("patches", "window"), [(16, 3), (15, 1), (16, 0), (25, 2)])
def test_window_that_does_not_fit_is_refused(patches: int, window: int) -> None:
    with pytest.raises(ConfigError, match=rf"window {window}, {patches} patches"):
        window_pool(torch.zeros(patches, 2), window)
