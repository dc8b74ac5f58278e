"""Puts video tokens where the prompt's placeholders are.

One scatter for the whole batch. Scattering a wrong number would shift every later row silently, so
the counts are compared row by row first.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from features.errors import RedVillmError


def splice(
    embeds: Float[Tensor, "B L H"],
    input_ids: Int[Tensor, "B L"],
    image_token_id: int,
    tokens: Float[Tensor, "B S H"],
    valid: Bool[Tensor, "B S"],
) -> Float[Tensor, "B L H"]:
    """Prompt embeddings with each row's placeholders replaced by its valid video tokens, in order.

    Raises:
        RedVillmError: a row's placeholders and video tokens differ in number.
    """
    places = input_ids == image_token_id
    wanted, got = places.sum(dim=1), valid.sum(dim=1)
    if not torch.equal(wanted, got):
        row = int((wanted != got).nonzero()[0])
        raise RedVillmError(
            "placeholders and video tokens differ in number",
            where=f"row {row} of the batch",
            got=f"{int(got[row])} video tokens",
            wanted=f"{int(wanted[row])}, one for each placeholder in the prompt",
            do="render the prompt with the projector's num_tokens for this clip",
        )
    return embeds.masked_scatter(places[..., None], tokens[valid].to(embeds.dtype))
