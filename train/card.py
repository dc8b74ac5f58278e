"""The model card beside trained projectors: what they are, and under whose licences."""

from __future__ import annotations

from features.config import BaseConfig, DatasetConfig
from train.checkpoint import ProjectorConfig

_CARD = """# {experiment}: projectors that make a Video LLM of {base}

Trained by RED-VILLM: the alignment module of the Image LLM and a temporal copy of it, nothing else.
Of no use without the base and features of its vision tower.

| | |
|---|---|
| base | {base}, checkpoint `{checkpoint}` |
| licence of the base | {base_licence} |
| data | {data}, {frames} frames a video |
| licence of the data | {data_licence} |
| licence of the code | Apache-2.0 |
| prompt | `{prompt}` |
| switches | {switches} |
| optimizer steps, seed | {steps}, {seed} |
| feature fingerprint | `{fingerprint}` |
| feature content | `{content}` |

Weights that are derived from a base carry its licence's terms: read it before you share them.
"""


def model_card(
    experiment: str, base: BaseConfig, dataset: DatasetConfig, config: ProjectorConfig
) -> str:
    """Markdown."""
    return _CARD.format(
        experiment=experiment,
        base=base.name,
        checkpoint=base.checkpoint,
        base_licence=base.licence,
        data=dataset.name,
        data_licence=dataset.licence,
        frames=config.spec.num_frames,
        prompt=base.prompt.replace("\n", "\\n").replace("|", "\\|"),
        switches=config.switches,
        steps=config.steps,
        seed=config.seed,
        fingerprint=config.spec.fingerprint[:16],
        content=config.store_digest[:16],
    )
