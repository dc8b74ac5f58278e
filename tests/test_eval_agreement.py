"""Agreement of two judges against naive formulas and tables worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import failed, ok, same

from eval.judges.base import Verdict
from eval.metrics import agreement
from eval.scores import Agreement
from features.errors import RedVillmError


def judged(pairs: Sequence[tuple[bool | None, float]]) -> list[Verdict]:
    return [ok(str(i), correct, score) for i, (correct, score) in enumerate(pairs)]


def test_kappa_of_a_table_worked_by_hand() -> None:
    # Both yes 20, a alone 5, b alone 10, neither 15. Same: 35/50. By chance: a says yes 1/2 of the
    # time, b 3/5, so 1/2 * 3/5 + 1/2 * 2/5 = 1/2. Kappa: (7/10 - 1/2) / (1 - 1/2) = 2/5.
    table = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    a, b = judged([(x, 3) for x, _ in table]), judged([(y, 3) for _, y in table])
    found = agreement(a, b)
    assert found.questions == 50
    assert found.same == pytest.approx(70)
    assert found.kappa == pytest.approx(2 / 5)
    assert found.spearman is None  # all scores are 3
    assert found.score_gap == 0


def test_spearman_of_a_table_worked_by_hand() -> None:
    # Ranks 1 2 3 4 5 and 2 1 4 3 5: squared differences 1 1 1 1 0. 1 - 6 * 4 / (5 * 24) = 4/5.
    a = judged([(None, score) for score in (0, 1, 2.5, 3, 5)])
    b = judged([(None, score) for score in (1, 0, 4, 2, 5)])
    found = agreement(a, b)
    assert found.spearman == pytest.approx(4 / 5)
    assert found.score_gap == pytest.approx(((0 + 1 + 2.5 + 3 + 5) - (1 + 0 + 4 + 2 + 5)) / 5)
    assert (found.same, found.kappa) == (None, None)


def naive_ranks(values: Sequence[float]) -> list[float]:
    """Mean position of a value's equals, from 1."""
    places = sorted(values)
    return [places.index(v) + (places.count(v) + 1) / 2 for v in values]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 5), st.booleans(), st.integers(0, 5)),
        min_size=2,
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_agreement_equals_the_naive_formulas(
    table: list[tuple[bool, int, bool, int]],
) -> None:
    a = judged([(right, score) for right, score, _, _ in table])
    b = judged([(right, score) for _, _, right, score in table])
    found = agreement(a, b)
    n = len(table)
    same_share = sum(x == y for x, _, y, _ in table) / n
    yes_a, yes_b = sum(x for x, *_ in table) / n, sum(y for *_, y, _ in table) / n
    assert found.same == pytest.approx(100 * same_share)
    if {yes_a, yes_b} & {0, 1}:
        assert found.kappa is None
    else:
        chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
        assert found.kappa == pytest.approx((same_share - chance) / (1 - chance))
    ranks_a, ranks_b = naive_ranks([r[1] for r in table]), naive_ranks([r[3] for r in table])
    middle = (n + 1) / 2
    both = sum((x - middle) * (y - middle) for x, y in zip(ranks_a, ranks_b, strict=True))
    spread = [sum((x - middle) ** 2 for x in ranks) for ranks in (ranks_a, ranks_b)]
    if 0 in spread:
        assert found.spearman is None
    else:
        wanted = both / (spread[0] * spread[1]) ** 0.5
        assert found.spearman == pytest.approx(wanted, abs=1e-12)
    turned = agreement(b, a)
    assert (turned.same, turned.score_gap) == (found.same, pytest.approx(-(found.score_gap or 0)))


def test_agreement_is_over_what_both_judged_matched_by_sample_and_aspect() -> None:
    a = [ok("1", True, 5), ok("2", True, 4), failed("3", "refused"), ok("4", None, 2, "detail")]
    b = [ok("4", None, 3, "detail"), failed("2", "lost"), ok("3", True), ok("1", False, 3)]
    b += [ok("1", None, 0, "context"), ok("9", True, 1)]  # nothing of a's
    found = agreement(a, b)
    assert same(found, Agreement(2, 0.0, None, None, ((5 - 3) + (2 - 3)) / 2))
    assert agreement(a, []) == Agreement(0, None, None, None, None)
    with pytest.raises(RedVillmError, match="judged twice"):
        agreement([*a, ok("1", False)], b)
