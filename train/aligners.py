"""Alignment modules: what an Image LLM puts between its eyes and its language.

Token by token (LLaVA), or a resampler that always gives as many tokens as it has queries
(Qwen-VL). Callers never assume a number of tokens: they ask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from features.errors import ConfigError
from features.pooling import grid_side, resize_positions

Reading = Literal["resampler", "resampler-grid", "tokenwise"]


class Aligner(nn.Module, ABC):
    """Maps vision features to LLM tokens. It may return another number of tokens than it got."""

    width: int
    """D: width of the vision features."""

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "B S D"], valid: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B R H"], Bool[Tensor, "B R"]]:
        """(tokens, which of them exist); rows of `x` that are not valid must have no influence."""

    @abstractmethod
    def num_tokens(self, length: int) -> int:
        """Valid tokens that come out of `length` valid rows."""

    def read_as(self, reading: Reading) -> Aligner:
        """This module in another reading; only a resampler has more than one.

        Raises:
            ConfigError: it has no such reading.
        """
        if reading != "resampler":
            got = f"{reading} for {type(self).__name__}"
            raise ConfigError("this alignment module has one reading", got=got, do="leave it out")
        return self


class TokenwiseAligner(Aligner):
    """Any aligner that maps token by token, so that `valid` passes through."""

    @abstractmethod
    def project(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S H"]:
        """Each row on its own."""

    def forward(
        self, x: Float[Tensor, "B S D"], valid: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S H"], Bool[Tensor, "B S"]]:
        """Token by token."""
        return self.project(x), valid

    def num_tokens(self, length: int) -> int:
        """One token a row."""
        return length


class LinearAligner(TokenwiseAligner):
    """The first LLaVA's, PaliGemma's and (behind a pixel shuffle) Idefics3's: one linear layer."""

    def __init__(self, width: int, hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, hidden, bias=bias)

    def project(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S H"]:
        """See TokenwiseAligner."""
        tokens: Tensor = self.linear(x)
        return tokens


class MLPAligner(TokenwiseAligner):
    """LLaVA-1.5's projector: two linear layers with an activation between."""

    def __init__(self, width: int, hidden: int, act: nn.Module, bias: bool = True) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, hidden, bias=bias)
        self.act = act
        self.linear_2 = nn.Linear(hidden, hidden, bias=bias)

    def project(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S H"]:
        """See TokenwiseAligner."""
        tokens: Tensor = self.linear_2(self.act(self.linear_1(x)))
        return tokens


class NormedAligner(TokenwiseAligner):
    """InternVL's, Qwen2-VL's and Gemma 3's: a norm, then linear layers.

    The norm's width may be that of one patch, of which a token holds several side by side.
    """

    def __init__(self, width: int, norm: nn.LayerNorm | nn.RMSNorm, *layers: nn.Module) -> None:
        super().__init__()
        self.width = width
        self.norm = norm
        self.mlp = nn.Sequential(*layers)

    def project(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S H"]:
        """See TokenwiseAligner."""
        width = self.norm.normalized_shape[0]
        patches = x.reshape(*x.shape[:2], x.shape[2] // width, width)
        tokens: Tensor = self.mlp(self.norm(patches).flatten(-2))
        return tokens


class ValuePath(TokenwiseAligner):
    """Qwen-VL's resampler, reading C: the value path alone, one token a row.

    proj(ln_post(W_o W_v ln_kv(kv_proj x) + b)). Queries, keys and positions do not exist here.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.width = width
        self.kv_proj = nn.Linear(width, hidden, bias=False)
        self.ln_kv = nn.LayerNorm(hidden, eps=1e-6)
        self.v_proj = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)
        self.ln_post = nn.LayerNorm(hidden, eps=1e-6)
        self.proj = nn.Linear(hidden, hidden, bias=False)

    def project(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S H"]:
        """See TokenwiseAligner."""
        return self._finish(self.v_proj(self.ln_kv(self.kv_proj(x))))

    def _finish(self, mixed: Float[Tensor, "B R H"]) -> Float[Tensor, "B R H"]:
        tokens: Tensor = self.proj(self.ln_post(self.out_proj(mixed)))
        return tokens


class Resampler(Aligner):
    """Qwen-VL's alignment module {attn_pool, ln_post, proj} in its readings A and B.

    One cross attention without residual: learned queries ask, features answer. Key positions are a
    table on a square grid, resized to the grid of the input as the stock module does. For S rows
    that are no square the side is ceil(sqrt S), and the first S cells in raster order are taken:
    equal to stock for squares, and a time order for frames.

    A (`resampler`) keeps the queries as they are: as many tokens as queries, whatever comes in.
    B (`resampler-grid`) resizes queries and their positions to the input's grid: a token a row.
    """

    pos_embed: Tensor

    def __init__(self, width: int, hidden: int, num_queries: int, num_heads: int) -> None:
        super().__init__()
        self.width, self.num_heads, self.grid = width, num_heads, False
        self.value_path = ValuePath(width, hidden)
        self.query = nn.Parameter(torch.empty(num_queries, hidden))
        self.register_buffer("pos_embed", torch.empty(num_queries, hidden))
        self.ln_q = nn.LayerNorm(hidden, eps=1e-6)
        self.q_proj = nn.Linear(hidden, hidden)
        self.k_proj = nn.Linear(hidden, hidden)

    def reset_parameters(self) -> None:
        """Fresh queries, as Qwen-VL's own training began; layers have a reset of their own."""
        nn.init.trunc_normal_(self.query, std=0.02)

    def read_as(self, reading: Reading) -> Aligner:
        """The same weights in reading A, B or C."""
        self.grid = reading == "resampler-grid"
        return self.value_path if reading == "tokenwise" else self

    def num_tokens(self, length: int) -> int:
        """A: the number of queries; B: one a row. Nothing comes out of nothing."""
        return length if self.grid else len(self.query) * (length > 0)

    def forward(
        self, x: Float[Tensor, "B S D"], valid: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B R H"], Bool[Tensor, "B R"]]:
        """Valid rows come first in each row of `x`; their number decides the grid."""
        lengths = valid.sum(dim=1)
        counts = lengths.tolist()
        path = self.value_path
        kv = path.ln_kv(path.kv_proj(x))
        positions = self._rows(self.pos_embed, counts, x.shape[1])
        keys = self.k_proj(kv + positions)
        if self.grid:
            queries = self.ln_q(self._rows(self.query, counts, x.shape[1])) + positions
            exists = valid
        else:
            queries = (self.ln_q(self.query) + self.pos_embed).expand(len(x), -1, -1)
            exists = (lengths > 0)[:, None].expand(-1, len(self.query))
        q, k, v = (self._split(t) for t in (self.q_proj(queries), keys, path.v_proj(kv)))
        # A sample without any row would attend to nothing, which is NaN; its tokens do not exist.
        mask = (valid | (lengths == 0)[:, None])[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return path._finish(mixed.transpose(1, 2).flatten(2)), exists

    def _split(self, x: Float[Tensor, "B R H"]) -> Float[Tensor, "B A R K"]:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _rows(
        self, table: Float[Tensor, "Q H"], counts: list[int], length: int
    ) -> Float[Tensor, "B S H"]:
        """For each sample the first rows of the table on its own grid, padded to `length`."""
        by_count = {n: _raster(table, n, length) for n in set(counts)}
        return torch.stack([by_count[n] for n in counts])


def _raster(table: Float[Tensor, "Q H"], count: int, length: int) -> Float[Tensor, "S H"]:
    return F.pad(resize_positions(table, grid_side(count))[:count], (0, 0, 0, length - count))
