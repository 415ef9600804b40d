"""Losses that verl 0.9.1 computed, and the comparison with them."""

from __future__ import annotations

import json

import pytest
import torch

from stapo_pl.conformance.checks import take_step
from stapo_pl.conformance.vectors import LONGEST, cases, flat, mini_batch
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
    KLCov,
)
from stapo_pl.rollout.advantages import group_advantages
from support.places import GOLDEN

CASES = cases()
# The same losses of verl, of policies that are further from the old one.
FAR = json.loads((GOLDEN / "verl_0.9.1_far.json").read_text())["cases"]

# What is compared, by the keys of the file.
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
ADVANTAGES = {
    "grpo(std, ddof=1, eps=1e-6)": "grpo",
    "dr_grpo(mean only)": "dr_grpo",
    "rloo": "rloo",
    "opo(length-weighted baseline)": "opo",
    "gpg": "gpg",
    "reinforce++(gamma=1, token-whitened)": "reinforce_pp",
    "reinforce++_baseline(token-whitened)": "reinforce_pp_baseline",
}


def advantages(case, estimator: str) -> torch.Tensor:
    rewards_PG = torch.tensor(case["rewards"], dtype=torch.float64).view(-1, case["group_size"])
    lengths_PG = torch.tensor(case["lengths"]).view_as(rewards_PG)
    return group_advantages(rewards_PG, lengths_PG, estimator, World()).flatten()


def check_loss(case, objective, name: str, tolerance: float = 1e-9) -> None:
    """Compares an objective's loss and its gradient with the ones that verl gave for `name`."""
    tokens, statistics = mini_batch(case)
    tokens.sampler_logprobs_T = tokens.old_logprobs_T
    step = take_step(objective, tokens, statistics, LONGEST)
    expected = case["losses"][name]
    assert step.loss.item() == pytest.approx(expected["loss"], abs=tolerance)
    grad_T = flat(case, expected["grad"])
    torch.testing.assert_close(step.gradient.logprobs_T, grad_T, rtol=0, atol=tolerance)
