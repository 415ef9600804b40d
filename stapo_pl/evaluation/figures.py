"""The figures of validations and evaluations. Each figure is defined once, here."""

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

# A bootstrap draws so many values together, which are 8 MB.
_NUMBERS_AT_ONCE = 1_000_000


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Returns pass@k: an unbiased estimate of the probability that one of k samples is right.

    It is equation 1 of 2107.03374.

    Args:
        samples: n, the number of samples of the problem.
        correct: c, the number of samples that are right.
        k: the number of samples of which one must be right, at most `samples`.

    Example:
        >>> pass_at_k(samples=4, correct=1, k=2)
        0.5
    """
    assert 0 <= correct <= samples and 1 <= k <= samples
    return 1 - comb(samples - correct, k) / comb(samples, k)


def accuracy(scores: Sequence[Score]) -> float:
    """Returns the share of responses that are right. For k responses to one problem it is avg@k."""
    return fmean(score.correct for score in scores)


def unparsed_fraction(scores: Sequence[Score]) -> float:
    """Returns the share of responses in which no answer was found."""
    return fmean(score.extracted is None for score in scores)


def majority_at_k(scores: Sequence[Score]) -> float:
    """Returns maj@k: whether the most frequent answer of k samples of a problem is right.

    Samples without an answer do not vote (2203.11171). All right answers count as the same answer,
    and wrong answers are the same if their texts are, up to spaces.

    Returns:
        1 if the most frequent answer is right, and 0 if it is not. If several answers are the most
        frequent, the probability that one of them, drawn at random, is right.
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
    """Returns a bootstrap confidence interval (low, high) of the mean over problems.

    It draws as many problems as there are, with replacement, many times, and takes percentiles of
    the means. Problems are drawn, not samples, because a result should hold for other problems. The
    noise of the samples is part of the differences between the values.

    Args:
        values_P: one value for each problem. It may be a mean over samples.
        level: the probability that the interval should contain the true mean.
        draws: how often problems are drawn.
        seed: the seed of the draws.
    """
    values = np.asarray(values_P, dtype=np.float64)
    rng = np.random.default_rng(seed)
    # All draws together could need too much memory, so they are made in blocks.
    block = max(1, _NUMBERS_AT_ONCE // len(values))
    sizes = [min(block, draws - start) for start in range(0, draws, block)]
    drawn = (values[rng.integers(0, len(values), (size, len(values)))] for size in sizes)
    means = np.concatenate([values_DP.mean(axis=1) for values_DP in drawn])
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def greedy_figures(greedy: Sequence[Sequence[Trajectory]]) -> dict[str, Tensor]:
    """Returns the accuracy [prompts] of groups of one trajectory, sampled at temperature 0."""
    accuracies_P = [accuracy([group[0].score]) for group in greedy]
    return {"accuracy_greedy": torch.tensor(accuracies_P, dtype=torch.float32)}


def sampled_figures(sampled: Sequence[Sequence[Trajectory]]) -> dict[str, Tensor]:
    """Returns the figures of each prompt of a validation. There may be no prompt.

    Args:
        sampled: for each prompt, a group of k trajectories.

    Returns:
        The values [prompts] of each figure, by name.
    """
    scores_PG = [[t.score for t in group] for group in sampled]
    columns = {
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
    """Returns the figures of a benchmark. Fractions lie between 0 and 1 and are not per cent.

    Args:
        responses_PG: k responses to each problem.
        scores_PG: the score of each response.

    Returns:
        The number of `problems` and of `samples` (k); `accuracy` (avg@k) with its 95 % bootstrap
        `interval`; `pass_at_k` for k = "1", "2", "4", ... and for all samples; `majority_at_k`;
        the fractions of truncated and unparsed responses; the numbers of `timeouts` and `errors` of
        grading; and the mean number of tokens of a response.
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
