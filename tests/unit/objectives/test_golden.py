"""Advantages, KL estimators, aggregations and losses equal verl's, with gradients, in float64."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.conformance.vectors import flat, mini_batch
from stapo_pl.core.batches import TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.objectives import (
    IcePop,
    OptimalTokenBaseline,
    SequenceIcePop,
    SequenceMaxK3Mask,
    SequenceMeanK3Mask,
    SequenceRatioMask,
    SequenceTIS,
    TokenK3Mask,
    TokenTIS,
)
from stapo_pl.objectives.kl import kl_divergence
from support.objectives import build_objective
from support.verl import (
    ADVANTAGES,
    CASES,
    FAR,
    LOSSES,
    advantages,
    check_loss,
)


@pytest.fixture(params=CASES, ids=lambda case: f"seed{case['seed']}")
def case(request):
    return request.param


@pytest.mark.parametrize("key", ADVANTAGES)
def test_advantages(case, key):
    expected = torch.tensor(case["advantages"][key], dtype=torch.float64)
    if expected.ndim == 2:  # verl gives every token of a response the same advantage
        expected = expected[:, 0]
    torch.testing.assert_close(advantages(case, ADVANTAGES[key]), expected, rtol=0, atol=1e-9)


def test_advantages_of_each_token(case):
    tokens, current = mini_batch(case)
    statistics = TokenStatistics(tokens.old_logprobs_T, current.entropy_T, current.collision_T)
    got_T = OptimalTokenBaseline().advantages(tokens, statistics, World())
    expected_T = flat(case, case["advantages"]["otb(old_logp, collision)"])
    torch.testing.assert_close(got_T, expected_T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "abs"])
def test_kl_estimators(case, estimator):
    ours = kl_divergence(flat(case, case["logp"]), flat(case, case["ref_logp"]), estimator)
    torch.testing.assert_close(ours, flat(case, case["kl"][estimator]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients(case, name):
    # verl adds 1e-8 to the length of a response that it divides by, and no paper does. Losses of
    # this size show it.
    shows = name.startswith(("gmpo", "sapo"))
    check_loss(case, LOSSES[name], name, tolerance=1e-8 if shows else 1e-9)


FAR_LOSSES = [(case, name) for case in FAR for name in case["losses"]]


@pytest.mark.parametrize("case, name", FAR_LOSSES, ids=lambda x: x if isinstance(x, str) else "")
def test_losses_of_a_policy_far_from_the_old_one(case, name):
    """Here the dual clip, the caps of ratios, and the two kinds of DPPO show themselves.

    And so does the 1e-8 that verl adds to the lengths that GSPO, GMPO and SAPO divide by.
    """
    shows = name.startswith(("gmpo", "gspo", "sapo"))
    check_loss(case, LOSSES[name], name, tolerance=1e-8 if shows else 1e-9)


def test_losses_that_are_equal_nearby_differ_far_away():
    for case in FAR:
        found = {name: recorded["loss"] for name, recorded in case["losses"].items()}
        assert len(set(found.values())) == len(found)


CORRECTIONS = {
    "token_tis(2)": TokenTIS(cap=2.0),
    "sequence_tis(2)": SequenceTIS(cap=2.0),
    "icepop(0.5,2)": IcePop(low=0.5, high=2.0),
    "sequence_icepop(0.5,2)": SequenceIcePop(low=0.5, high=2.0),
    "mask token_k3<=0.3": TokenK3Mask(most=0.3),
    "mask seq_mean_k3<=0.05": SequenceMeanK3Mask(most=0.05),
    "mask seq_mean_k1 in (0.9,1.1)": SequenceRatioMask(low=0.9, high=1.1),
    "mask seq_max_k3<=0.5": SequenceMaxK3Mask(most=0.5),
}


@pytest.mark.parametrize("name", CORRECTIONS)
def test_corrections(case, name):
    log_ratio_T = flat(case, case["log_train_minus_sampler"])
    lengths = torch.tensor(case["lengths"])
    sequence_T = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    weights_T = CORRECTIONS[name].weights(log_ratio_T, sequence_T)
    expected = flat(case, case["corrections"][name])
    torch.testing.assert_close(weights_T, expected, rtol=0, atol=1e-9)
    assert len(expected.unique()) > 1


def test_every_loss_and_correction_that_is_recorded_is_compared(case):
    assert case["losses"].keys() == LOSSES.keys()
    assert case["advantages"].keys() == {*ADVANTAGES, "otb(old_logp, collision)"}
    assert case["corrections"].keys() == CORRECTIONS.keys()


def test_shipped_yamls_have_the_losses_that_are_compared():
    shipped = {name: build_objective(name) for name in ("grpo", "dr_grpo", "justrl", "dapo")}
    clips = {name: (o.clip_low, o.clip_high, o.aggregation) for name, o in shipped.items()}
    assert clips == {
        "grpo": (0.2, 0.2, "seq-mean-token-mean"),
        "dr_grpo": (0.2, 0.2, "seq-mean-token-sum-norm"),
        "justrl": (0.2, 0.28, "token-mean"),
        "dapo": (0.2, 0.28, "token-mean"),
    }
