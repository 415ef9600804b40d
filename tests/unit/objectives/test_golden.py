"""Advantages, KL estimators, aggregations and losses equal verl's, with gradients, in float64."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.core.world import World
from stapo_pl.objectives import (
    CISPO,
    DPPOKL,
    DPPOTV,
    DRO,
    GMPO,
    GRPO,
    GSPO,
    REINFORCE,
    SAPO,
    ClipCov,
    IcePop,
    KLCov,
    OptimalTokenBaseline,
    SequenceIcePop,
    SequenceMaxK3Mask,
    SequenceMeanK3Mask,
    SequenceRatioMask,
    SequenceTIS,
    TokenK3Mask,
    TokenTIS,
)  # fmt: skip
from stapo_pl.objectives.kl import kl_divergence
from support.objectives import build_objective
from support.verl import CASES, advantages, check_loss, flat, response_tokens

CLIPS = {"clip(0.2,0.2)": (0.2, 0.2), "clip(0.2,0.28)": (0.2, 0.28)}
AGGREGATIONS = [
    "token-mean",
    "seq-mean-token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
]
LOSSES = {
    f"{clip} {aggregation}": GRPO(clip_low=low, clip_high=high, aggregation=aggregation)
    for clip, (low, high) in CLIPS.items()
    for aggregation in AGGREGATIONS
} | {
    "dual-clip(0.2,0.28,c=3) token-mean": GRPO(clip_high=0.28, dual_clip=3.0,
    aggregation="token-mean"),
    "gspo(3e-4,4e-4)": GSPO(),
    "gspo(0.2,0.28)": GSPO(clip_low=0.2, clip_high=0.28),
    "cispo(low=0.2,high=0.28) token-mean": CISPO(),
    "cispo(low=1,high=4) token-mean": CISPO(clip_low=1.0, clip_high=4.0),
    "sapo(tau_pos=1.0,tau_neg=1.05) seq-mean-token-mean": SAPO(),
    "gmpo(0.4,0.4)": GMPO(),
    "dppo_tv(low=0.15,high=0.15,c=20) token-mean": DPPOTV(),
    "dppo_tv(low=0.01,high=0.02,c=2) token-mean": DPPOTV(
        bound_low=0.01, bound_high=0.02, cap=2.0),
    "dppo_kl(low=0.05,high=0.05,c=20) token-mean": DPPOKL(bound_low=0.05, bound_high=0.05),
    "gpg token-mean": REINFORCE(),
    "dro(beta=0.5) token-mean": DRO(),
    "kl_cov(ratio=0.05,coef=1.0) token-mean": KLCov(ratio=0.05),
    # All candidates are drawn, so that which generator draws does not matter.
    "clip_cov(ratio=1,lb=0.5,ub=5) token-mean": ClipCov(
        ratio=1.0, band_low=0.5, clip_high=0.28),
}  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: f"seed{case['seed']}")
def case(request):
    return request.param


ADVANTAGES = {
    "grpo(std, ddof=1, eps=1e-6)": "grpo",
    "dr_grpo(mean only)": "dr_grpo",
    "rloo": "rloo",
    "opo(length-weighted baseline)": "opo",
    "gpg": "gpg",
    "reinforce++(gamma=1, token-whitened)": "reinforce_pp",
    "reinforce++_baseline(token-whitened)": "reinforce_pp_baseline",
}


@pytest.mark.parametrize("key", ADVANTAGES)
def test_advantages(case, key):
    expected = torch.tensor(case["advantages"][key], dtype=torch.float64)
    if expected.ndim == 2:  # verl gives every token of a response the same advantage
        expected = expected[:, 0]
    torch.testing.assert_close(advantages(case, ADVANTAGES[key]), expected, rtol=0, atol=1e-9)


def test_advantages_of_each_token(case):
    tokens, statistics = response_tokens(case)
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
