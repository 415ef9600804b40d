"""Every figure of a validation and of an evaluation, each defined once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stapo_pl.core.types import Response, Score, Trajectory


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


def accuracy(scores: Sequence[Score]) -> float:
    """Share of the responses that are right; of k responses to a problem, its avg@k."""
    return fmean(score.correct for score in scores)


def unparsed_fraction(scores: Sequence[Score]) -> float:
    """Share of the responses in which no answer was found."""
    return fmean(score.extracted is None for score in scores)


def majority_at_k(scores: Sequence[Score]) -> float:
    """Whether the answer that most of a problem's k samples give is right (2203.11171).

    Right answers are one answer, however they are written; wrong ones are told apart by their text.
    Samples without an answer do not vote. Among answers that tie, one is drawn: this is the
    probability that it is right.

    Returns:
        0 or 1, or between them at a tie.
    """
    votes = Counter(
        True if score.correct else "".join((score.extracted or "").split())
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


def validation_figures(
    greedy: Sequence[Sequence[Trajectory]], sampled: Sequence[Sequence[Trajectory]]
) -> dict[str, Tensor]:
    """What a validation says of each of its prompts; there may be none.

    Args:
        greedy: one response to each prompt.
        sampled: k responses to each prompt.

    Returns:
        Of each figure, its values [prompts].
    """
    scores_PG = [[t.score for t in group] for group in sampled]
    columns = {
        "accuracy_greedy": [accuracy([group[0].score]) for group in greedy],
        "accuracy": [accuracy(scores) for scores in scores_PG],
        "pass_at_k": [pass_at_k(len(s), sum(x.correct for x in s), len(s)) for s in scores_PG],
        "majority_at_k": [majority_at_k(scores) for scores in scores_PG],
        "truncated_fraction": [fmean(t.completion.truncated for t in group) for group in sampled],
        "unparsed_fraction": [unparsed_fraction(scores) for scores in scores_PG],
    }
    return {name: torch.tensor(list_P, dtype=torch.float32) for name, list_P in columns.items()}


def benchmark_figures(
    responses_PG: Sequence[Sequence[Response]], scores_PG: Sequence[Sequence[Score]]
) -> dict[str, Any]:
    """What the samples of a benchmark say; fractions, not per cent.

    Args:
        responses_PG: k of each problem.
        scores_PG: the verdict on each.

    Returns:
        problems, samples (k); accuracy (avg@k) with its 95 % bootstrap `interval`; pass_at_k by
        k = "1", "2", "4", ... and all; majority_at_k; truncated and unparsed fractions of the
        responses; how many timeouts and errors; mean tokens of a response.
    """
    k = len(scores_PG[0])
    correct_P = [sum(score.correct for score in group) for group in scores_PG]
    accuracy_P = [accuracy(scores) for scores in scores_PG]
    scores = [score for group in scores_PG for score in group]
    responses = [response for group in responses_PG for response in group]
    some_k = sorted({2**i for i in range(k.bit_length())} | {k})
    return {
        "problems": len(scores_PG),
        "samples": k,
        "accuracy": fmean(accuracy_P),
        "interval": bootstrap_interval(accuracy_P),
        "pass_at_k": {str(n): fmean(pass_at_k(k, c, n) for c in correct_P) for n in some_k},
        "majority_at_k": fmean(map(majority_at_k, scores_PG)),
        "truncated_fraction": fmean(response.truncated for response in responses),
        "unparsed_fraction": unparsed_fraction(scores),
        "timeouts": sum(score.outcome == "timeout" for score in scores),
        "errors": sum(score.outcome == "error" for score in scores),
        "tokens_mean": fmean(response.tokens for response in responses),
    }
