"""Importance weights between sampler and policy: by plain loops, and nothing where they agree."""

from __future__ import annotations

import math

import pytest
import torch

from stapo_pl.core.world import World
from stapo_pl.objectives import IcePop, SequenceTIS, TokenTIS
from support.carriers import random_minibatch
from support.objectives import build_objective
from support.places import OBJECTIVES


def by_loops(correction, log_ratios: list[float], sequences: list[int]) -> list[float]:
    weights = []
    for log_ratio, sequence in zip(log_ratios, sequences, strict=True):
        if isinstance(correction, SequenceTIS):
            product = 1.0
            for other, its_sequence in zip(log_ratios, sequences, strict=True):
                if its_sequence == sequence:
                    product *= math.exp(other)
            weights.append(product if product < correction.cap else correction.cap)
        elif isinstance(correction, TokenTIS):
            weights.append(min(math.exp(log_ratio), correction.cap))
        else:
            ratio = math.exp(log_ratio)
            weights.append(ratio if correction.low <= ratio <= correction.high else 0.0)
    return weights


CORRECTIONS = [TokenTIS(cap=1.2), SequenceTIS(cap=1.5), IcePop(low=0.8, high=1.25)]
each_correction = pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda c: type(c).__name__)


@each_correction
def test_weights_are_those_of_plain_loops(correction, generator):
    for _ in range(20):
        tokens, _ = random_minibatch(generator)
        log_ratio_T = tokens.old_logprobs_T - tokens.sampler_logprobs_T
        weights_T = correction.weights(log_ratio_T, tokens.sequence_T)
        expected = by_loops(correction, log_ratio_T.tolist(), tokens.sequence_T.tolist())
        assert weights_T.tolist() == pytest.approx(expected, rel=1e-12)
        assert len(set(expected)) > 1


@each_correction
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_that_of_each_token_times_its_weight(name, correction, generator):
    tokens, statistics = random_minibatch(generator)
    objective = build_objective(name)
    objective.correction = correction
    objective.set_weights(tokens, statistics, World(), 12)
    expected = torch.zeros((), dtype=torch.double)
    for t, token_loss in enumerate(objective.token_loss(statistics, tokens)[0]):
        expected += tokens.weights_T[t] * tokens.correction_T[t] * token_loss
    torch.testing.assert_close(objective.loss(statistics, tokens)[0], expected)


@each_correction
@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_changes_where_sampler_and_policy_agree(name, correction, generator):
    tokens, statistics = random_minibatch(generator)
    tokens.sampler_logprobs_T = tokens.old_logprobs_T.clone()
    losses = []
    for chosen in (None, correction):
        tokens.correction_T = None
        objective = build_objective(name, kl_coef=0.1)
        objective.correction = chosen
        objective.set_weights(tokens, statistics, World(), 12)
        losses.append(objective.loss(statistics, tokens)[0])
    assert torch.equal(*losses)


def test_no_token(generator):
    nothing = torch.zeros(0)
    for correction in CORRECTIONS:
        assert len(correction.weights(nothing, nothing.long())) == 0
