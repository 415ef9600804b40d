"""Selections equal plain loops, on one process and over ranks."""

from __future__ import annotations

import math

import pytest
import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.objectives import S2T, STAPO, TopEntropy
from support.carriers import random_minibatch


def loop_quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def loop_s2t(tokens, statistics, tau_p: float, q: float, scope: str) -> list[bool]:
    """The definition, one token at a time (2602.15620)."""
    probabilities = statistics.logprobs_T.exp().tolist()
    entropies, advantages = statistics.entropy_T.tolist(), tokens.advantages_T.tolist()
    rare = [a > 0 and p < tau_p for a, p in zip(advantages, probabilities, strict=True)]
    candidates = (
        [h for h, r in zip(entropies, rare, strict=True) if r] if scope == "rare" else entropies
    )
    if not candidates:
        return [True] * len(rare)
    tau_h = loop_quantile(candidates, q)
    return [not (r and h < tau_h) for r, h in zip(rare, entropies, strict=True)]


@pytest.mark.parametrize("scope, q", [("rare", 0.75), ("all", 0.8)])
def test_s2t_equals_the_plain_loop_on_1000_minibatches(generator, scope, q):
    silenced = 0
    kinds = {"no candidate": 0, "one candidate": 0, "ties": 0, "all negative": 0}
    for i in range(1000):
        tokens, statistics = random_minibatch(generator, sequences=1 + i % 6)
        if i % 10 == 0:
            tokens.advantages_T = -tokens.advantages_T.abs() - 0.1
        tau_p = (0.002, 0.05, 1e-4)[i % 3]
        expected = loop_s2t(tokens, statistics, tau_p, q, scope)
        mask = S2T(tau_p=tau_p, quantile=q, scope=scope).select(tokens, statistics, World())
        assert mask.tolist() == expected
        rare = (tokens.advantages_T > 0) & (statistics.logprobs_T.exp() < tau_p)
        entropies = statistics.entropy_T[rare].tolist()
        kinds["no candidate"] += not entropies
        kinds["one candidate"] += len(entropies) == 1
        kinds["ties"] += len(set(entropies)) < len(entropies)
        kinds["all negative"] += bool((tokens.advantages_T < 0).all())
        silenced += expected.count(False)
    assert silenced > 100 and min(kinds.values()) > 20, (silenced, kinds)


def test_the_comparison_is_strict():
    """Where all rare tokens have the same entropy, none lies below its quantile."""
    tokens, statistics = minibatch(advantages=[1, 1, 1], logprobs=[-8, -8, -8], entropies=[0.5] * 3)
    assert S2T().select(tokens, statistics, World()).all()


def test_only_rare_confident_tokens_of_correct_answers_are_silenced():
    tokens, statistics = minibatch(
        advantages=[1, 1, 1, -1, 1], logprobs=[-8, -8, -1, -8, -8], entropies=[0.1, 2.0, 0.0, 0.0,
        0.2]
    )  # fmt: skip
    mask = S2T(quantile=0.75).select(tokens, statistics, World())
    assert mask.tolist() == [False, True, True, True, False]


def test_top_entropy_keeps_the_highest_fifth(generator):
    statistics = TokenStatistics(*torch.rand(3, 1000, generator=generator, dtype=torch.float64))
    tokens, _ = random_minibatch(generator)
    mask = TopEntropy(fraction=0.2).select(tokens, statistics, World())
    assert mask.sum() == 200
    assert statistics.entropy_T[mask].min() > statistics.entropy_T[~mask].max()


def test_entropy20_divides_by_all_tokens_and_s2t_by_the_selected_ones(generator):
    tokens, statistics = random_minibatch(generator, sequences=40)
    weights = {}
    for name, selection in (("top", TopEntropy()), ("s2t", S2T(tau_p=0.05))):
        objective = STAPO()
        objective.selection = selection
        objective.set_weights(tokens, statistics, World(), 12)
        weights[name] = tokens.weights_T
        assert 0 < (tokens.weights_T == 0).sum() < len(tokens)
    assert weights["top"].max() == 1 / len(tokens)
    assert weights["s2t"].max() == 1 / int((weights["s2t"] > 0).sum())
    assert weights["s2t"].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "selection, arguments",
    [
        (S2T, {"tau_p": -0.1}),
        (S2T, {"tau_p": 1.5}),
        (S2T, {"quantile": 75}),
        (S2T, {"scope": "some"}),
        (S2T, {"statistics": "old"}),
        (TopEntropy, {"fraction": 20}),
    ],
)
def test_thresholds_out_of_range_are_refused(selection, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        selection(**arguments)


def minibatch(advantages, logprobs, entropies):
    n = len(advantages)
    advantages_T, logprobs_T, entropy_T = (
        torch.tensor(x, dtype=torch.float64) for x in (advantages, logprobs, entropies)
    )
    index = torch.arange(n)
    tokens = Tokens(index, index, advantages_T, logprobs_T, old_logprobs_T=logprobs_T)
    return tokens, TokenStatistics(logprobs_T, entropy_T, torch.zeros(n))
