"""What k samples of each problem say of a policy: pass@k, majority voting, and how sure it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb

import numpy as np

from stapo_pl.core.types import Score


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of the probability that one of k samples is right (2107.03374, eq. 1).

    Args:
        samples: drawn for the problem, n.
        correct: how many of them are right, c.
        k: at most `samples`.

    Example:
        >>> pass_at_k(samples=4, correct=1, k=2)
        0.5
    """
    assert 0 <= correct <= samples and 1 <= k <= samples
    return 1 - comb(samples - correct, k) / comb(samples, k)


def majority_at_k(scores: Sequence[Score]) -> float:
    """Whether the answer that most of a problem's k samples give is right (2203.11171).

    Right answers are one answer, however they are written; wrong ones are told apart by their text.
    Samples without an answer do not vote. Among answers that tie, one is drawn: this is the
    probability that it is right.

    Returns:
        0 or 1, or between them at a tie.
    """
    votes = Counter(
        True if score.correct else "".join(score.extracted.split())
        for score in scores
        if score.correct or score.extracted is not None
    )
    most = max(votes.values(), default=0)
    winners = [answer for answer, count in votes.items() if count == most]
    return (True in winners) / len(winners) if winners else 0.0


def bootstrap_interval(
    values_P: Sequence[float], level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Confidence interval of the mean of problems' values: percentiles over redrawn problems.

    Problems are what is redrawn, as another set of them is what a result is to hold for. Each
    value may be a mean over samples: their noise is in how the values scatter.

    Args:
        level: of confidence.
        draws: of as many problems as there are, with replacement.
    """
    values = np.asarray(values_P, dtype=np.float64)
    rng = np.random.default_rng(seed)
    # One by one, so that memory does not grow with problems times draws.
    means = [rng.choice(values, len(values)).mean() for _ in range(draws)]
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
