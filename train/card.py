"""The model card beside projectors: what they are, and under whose licences."""

from __future__ import annotations

from train.checkpoint import ProjectorConfig

CARD = "README.md"
TRAINED = """Trained by RED-VILLM: the alignment module of the Image LLM and a temporal copy of it,
nothing else."""
_CARD = """# {title}: projectors that make a Video LLM of {base}

{origin}
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

```python
import pipelines
model = pipelines.load("this folder")
print(model.answer("clip.mp4", "what happens in this video"))
```

Weights that are derived from a base carry its licence's terms: read it before you share them.
"""


def model_card(
    title: str, data_licence: str, config: ProjectorConfig, origin: str = TRAINED
) -> str:
    """Markdown.

    Args:
        title: name of the experiment, or of what was imported.
        data_licence: licence of the videos and annotations.
        config: the projectors'.
        origin: who made them, in a sentence.
    """
    base = config.base
    return _CARD.format(
        title=title,
        origin=origin,
        base=base.name,
        checkpoint=base.checkpoint,
        base_licence=base.licence,
        data=config.dataset,
        data_licence=data_licence,
        frames=config.spec.num_frames,
        prompt=base.prompt.replace("\n", "\\n").replace("|", "\\|"),
        switches=config.switches,
        steps="unknown" if config.steps is None else config.steps,
        seed=config.seed,
        fingerprint=config.spec.fingerprint[:16],
        content=config.store_digest[:16],
    )
