"""How far two judges say the same of the same answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from eval.judges.base import Verdict
from eval.scores import Agreement
from features.errors import RedVillmError


def agreement(a: Sequence[Verdict], b: Sequence[Verdict]) -> Agreement:
    """Compare two judges of one set of answers, over what both of them judged.

    Args:
        a: verdicts of the one.
        b: verdicts of the other; matched by sample and aspect.

    Raises:
        RedVillmError: a list judges an answer twice.
    """
    ours, theirs = _judged(a), _judged(b)
    pairs = [(ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())]
    right = [(u.correct, v.correct) for u, v in pairs]
    scores = [(u.score, v.score) for u, v in pairs]
    right_a, right_b = np.array([p for p in right if None not in p], dtype=bool).reshape(-1, 2).T
    score_a, score_b = np.array([p for p in scores if None not in p], float).reshape(-1, 2).T
    return Agreement(
        questions=len(pairs),
        same=100 * float((right_a == right_b).mean()) if right_a.size else None,
        kappa=_kappa(right_a, right_b),
        spearman=_spearman(score_a, score_b),
        score_gap=float((score_a - score_b).mean()) if score_a.size else None,
    )


def _judged(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], Verdict]:
    table = {(v.sample_id, str(v.aspect)): v for v in verdicts}
    if len(table) != len(verdicts):
        raise RedVillmError(
            "an answer was judged twice",
            got=f"{len(verdicts)} verdicts about {len(table)} answers",
            wanted="one verdict for each sample and aspect",
            do="compare two judges of one seed",
        )
    return {key: verdict for key, verdict in table.items() if verdict.outcome == "ok"}


def _kappa(a: Bool[np.ndarray, " Q"], b: Bool[np.ndarray, " Q"]) -> float | None:
    """Cohen (1960): the agreement beyond what the two shares of yes would give by chance."""
    if not _varies(a) or not _varies(b):
        return None
    yes_a, yes_b = a.mean(), b.mean()
    chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
    return float(((a == b).mean() - chance) / (1 - chance))


def _spearman(a: Float[np.ndarray, " Q"], b: Float[np.ndarray, " Q"]) -> float | None:
    """Rank correlation; equal scores share the mean of their ranks."""
    if not _varies(a) or not _varies(b):
        return None
    from scipy.stats import spearmanr  # slow to import, and only reports of two judges need it

    return float(spearmanr(a, b).statistic)


def _varies(values: np.ndarray) -> bool:
    return len(np.unique(values)) > 1
