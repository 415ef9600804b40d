"""Estimators against closed forms, enumeration and simulation."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from stapo_pl.evaluation.figures import bootstrap_interval, majority_at_k, pass_at_k
from stapo_pl.rewards import Score


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_pass_at_k_is_the_mean_over_all_subsets(samples):
    for correct, k in product(range(samples + 1), range(1, samples + 1)):
        drawn = list(combinations([True] * correct + [False] * (samples - correct), k))
        assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, drawn)) / len(drawn))


def test_pass_at_k_closed_forms():
    assert pass_at_k(32, 8, 1) == pytest.approx(8 / 32)
    assert pass_at_k(32, 1, 8) == pytest.approx(8 / 32)
    assert pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)
    assert pass_at_k(4, 0, 4) == 0 and pass_at_k(4, 1, 4) == 1 and pass_at_k(4, 3, 2) == 1


def scores(*answers: str | None, right: str = "7") -> list[Score]:
    return [Score(0.0, answer in (right, f"{right}.0"), answer) for answer in answers]


@pytest.mark.parametrize(
    "answers, value",
    [
        (("7", "7", "3"), 1.0),
        (("7", "3", "3"), 0.0),
        (("7", "3"), 1 / 2),
        (("7", "3", "4"), 1 / 3),
        (("7", "7", "3", "3", "4"), 1 / 2),
        (("3", "3", "4", "4"), 0.0),
        (("7", "7.0", "3", "3", "4"), 1 / 2),  # the right answer, written in two ways
        (("7", "7.0", "3"), 1.0),
        (("7", "3", "4", "5", None, None), 1 / 4),  # no answer is no vote
        (("7", None, None, None), 1.0),
        ((None, None), 0.0),
        (("7", "3 4", "34"), 0.0),  # spaces make no other answer
    ],
)
def test_majority(answers, value):
    assert majority_at_k(scores(*answers)) == pytest.approx(value)


def test_bootstrap_of_equal_values_is_a_point():
    assert bootstrap_interval([0.25] * 30) == (0.25, 0.25)


def test_bootstrap_is_that_of_the_normal_approximation_for_many_problems():
    values = np.random.default_rng(0).beta(0.5, 0.5, size=2000)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - error, abs=0.05 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.05 * error)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Problems drawn from a population, 8 samples each: what an evaluation does, 400 times."""
    rng = np.random.default_rng(0)
    truth, covered, trials = 0.3, {0.95: 0, 0.5: 0}, 400  # the mean of beta(0.6, 1.4)
    for _ in range(trials):
        accuracy_P = rng.binomial(8, rng.beta(0.6, 1.4, size=60)) / 8
        for level in covered:
            low, high = bootstrap_interval(accuracy_P, level, draws=200, seed=int(rng.integers(99)))
            covered[level] += low <= truth <= high
    # Percentiles of 60 problems are slightly narrow; binomial noise of 400 trials is 1 and 2.5 %.
    assert 0.91 <= covered[0.95] / trials <= 0.97
    assert 0.45 <= covered[0.5] / trials <= 0.55
