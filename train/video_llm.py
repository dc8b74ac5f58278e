"""The Video LLM: trainable projectors in front of a frozen LLM.

All tensor work of training and evaluation is here, so that the trainer has none. The LLM runs in
its own dtype and gives gradients to its input only; the projectors stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from rich.table import Table
from torch import Tensor, nn
from transformers import PreTrainedModel

from train.attention import FLEX, block_mask, full_masks
from train.batch import Batch
from train.image_llm import Attention, ImageLLM, Positions
from train.positions import mrope
from train.projectors import VideoProjector
from train.prompt import IGNORE
from train.splice import splice


class VideoLLM(nn.Module):
    """Projectors, splice and the frozen LLM."""

    def __init__(
        self,
        projector: VideoProjector,
        llm: PreTrainedModel,
        image_token_id: int,
        positions: Positions = "sequence",
        attention: Attention = "causal",
    ) -> None:
        super().__init__()
        self.projector = projector
        self.llm = llm
        self.image_token_id = image_token_id
        self.positions, self.attention = positions, attention

    @classmethod
    def of(cls, projector: VideoProjector, base: ImageLLM) -> VideoLLM:
        """The projectors, moved to where the base's LLM is, in front of it."""
        kinds = base.positions, base.attention
        return cls(projector.to(base.llm.device), base.llm, base.image_token_id, *kinds)

    def embed(self, batch: Batch) -> Float[Tensor, "B L H"]:
        """Prompt embeddings with the video in place, in the LLM's dtype.

        Raises:
            RedVillmError: placeholders and video tokens differ in number.
        """
        # A placeholder may be an id that the vocabulary does not have; its row is overwritten.
        ids = batch.input_ids.masked_fill(batch.input_ids == self.image_token_id, 0)
        embeds = self.llm.get_input_embeddings()(ids)
        tokens, valid = self.projector(
            batch.temporal, batch.temporal_valid, batch.spatial, batch.spatial_valid
        )
        return splice(embeds, batch.input_ids, self.image_token_id, tokens, valid)

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], int]:
        """(sum of the answer tokens' cross entropies in float32, number of answer tokens).

        The vocabulary head sees the positions that predict an answer token and no others.
        """
        hidden = self.hidden(batch).last_hidden_state
        targets = batch.labels[:, 1:]
        counted = targets != IGNORE
        logits = self.logits(hidden[:, :-1][counted])
        loss = F.cross_entropy(logits.float(), targets[counted], reduction="sum")
        return loss, batch.num_answer_tokens

    def hidden(self, batch: Batch, cache: Any = None) -> Any:
        """What the LLM's body makes of a batch, as it counts and looks; a cache is filled."""
        mask: Any = batch.attention_mask
        if batch.packed and self.llm.config._attn_implementation == FLEX:
            mask = block_mask(batch)
        elif self.attention != "causal" or batch.packed:
            who = self.attention, self.image_token_id
            mask = full_masks(batch, *who, self.llm.config, self.llm.dtype)
        elif batch.side == "right":
            mask = None  # behind padding on the right is nothing: the causal mask alone is exact
        llm: Any = self.llm  # transformers does not type the parts of its models
        return llm.model(
            inputs_embeds=self.embed(batch),
            attention_mask=mask,
            position_ids=self.position_ids(batch),
            past_key_values=cache,
            use_cache=cache is not None,
        )

    def position_ids(self, batch: Batch) -> Int[Tensor, "*axes B L"]:
        """Each token's position, in three axes where the LLM counts so."""
        if self.positions == "sequence":
            return batch.position_ids
        rows = []
        sees_spatial = self.projector.switches.features != "temporal_features"
        patches = (batch.spatial_valid.sum(dim=1) * sees_spatial).tolist()
        for ids, positions, spatial in zip(
            batch.input_ids, batch.position_ids, patches, strict=True
        ):
            places = (ids == self.image_token_id).nonzero().flatten().tolist()
            start = int(positions[places[0]]) if places else 0
            # Aligners in front of such an LLM are token-wise: what is not spatial is temporal.
            counts = len(places) - spatial, spatial
            known = mrope(start, *counts, int(positions.max()) + 1)
            rows.append(known.to(ids.device)[:, positions])
        return torch.stack(rows, dim=1)

    def logits(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows V"]:
        """The vocabulary head, with the soft cap that some LLMs put on it."""
        llm: Any = self.llm
        logits: Tensor = llm.lm_head(hidden)
        cap = getattr(llm.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that are trained, by name; a shared one is named once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def check_trainable(model: VideoLLM) -> Table:
    """A table of what is trained and what is frozen, checked against the switches.

    Raises:
        RuntimeError: a module is trained that should not be, or the other way round.
    """
    switches = model.projector.switches
    alignment = switches.features != "temporal_features" or switches.temporal_module == "shared"
    temporal = switches.features != "spatial_features" and switches.temporal_module != "shared"
    wanted = {
        "projector.alignment": alignment and switches.trained != "temporal",
        "projector.temporal": temporal and switches.trained != "alignment",
        "projector.alignment_mlp": switches.extra_mlp != "none",
        "projector.temporal_mlp": switches.extra_mlp == "both",
        "llm": False,
    }
    table = Table("module", "trained", "frozen", title="parameters")
    counts = {name: [0, 0] for name in wanted}
    for name, parameter in model.named_parameters():
        module = ".".join(name.split(".")[:2]) if name.startswith("projector.") else "llm"
        counts[module][0 if parameter.requires_grad else 1] += parameter.numel()
    for name, (trained, frozen) in counts.items():
        if (trained > 0) != wanted[name] or (wanted[name] and frozen):
            raise RuntimeError(f"{name}: {trained} trained, {frozen} frozen under {switches}")
        if trained or frozen:
            table.add_row(name, f"{trained:,}", f"{frozen:,}")
    return table


def count_parameters(model: nn.Module) -> dict[str, int]:
    """{"trained": n, "frozen": n}, shared parameters once."""
    sizes = [(p.requires_grad, p.numel()) for p in model.parameters()]
    return {
        "trained": sum(n for grad, n in sizes if grad),
        "frozen": sum(n for grad, n in sizes if not grad),
    }


def clip_gradients(model: nn.Module, max_norm: float, norm: Float[Tensor, ""]) -> None:
    """Clip gradients whose total norm is `norm`; 0 for `max_norm` clips nothing."""
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(trainable(model).values(), max_norm, norm)
