"""Advantages, KL estimators, aggregations and losses equal verl's, with gradients, in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import build_objective

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.objectives import GRPO
from stapo_pl.objectives.kl import kl_divergence
from stapo_pl.rollout.advantages import group_advantages

CASES = json.loads((Path(__file__).parent / "golden" / "verl.json").read_text())["cases"]
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
    aggregation="token-mean")
}  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: f"seed{case['seed']}")
def case(request):
    return request.param


def flat(case, rows) -> torch.Tensor:
    """Right-padded rows [B, L] as response tokens [T]."""
    rows = torch.tensor(rows, dtype=torch.float64)
    return torch.cat([row[:n] for row, n in zip(rows, case["lengths"], strict=True)])


def advantages(case, estimator: str) -> torch.Tensor:
    rewards_PG = torch.tensor(case["rewards"], dtype=torch.float64).view(-1, case["group_size"])
    return group_advantages(rewards_PG, estimator).flatten()


@pytest.mark.parametrize(
    "key, estimator",
    [("grpo(std, ddof=1, eps=1e-6)", "grpo"), ("dr_grpo(mean only)", "dr_grpo"), ("rloo", "rloo")],
)
def test_advantages(case, key, estimator):
    expected = torch.tensor(case["advantages"][key], dtype=torch.float64)
    torch.testing.assert_close(advantages(case, estimator), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "abs"])
def test_kl_estimators(case, estimator):
    ours = kl_divergence(flat(case, case["logp"]), flat(case, case["ref_logp"]), estimator)
    torch.testing.assert_close(ours, flat(case, case["kl"][estimator]), rtol=0, atol=1e-9)


def check_loss(case, objective, name: str) -> None:
    """Compares an objective's loss and its gradient with the ones that verl gave for `name`."""
    logp = flat(case, case["logp"]).requires_grad_()
    lengths = torch.tensor(case["lengths"])
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    tokens = Tokens(
        token_ids_T=torch.zeros_like(sequence),
        sequence_T=sequence,
        advantages_T=advantages(case, "grpo")[sequence],
        sampler_logprobs_T=logp.detach(),
        old_logprobs_T=flat(case, case["old_logp"]),
    )
    statistics = TokenStatistics(logp, flat(case, case["entropy"]), torch.zeros_like(logp))
    padded_length = len(case["logp"][0])
    objective.set_weights(tokens, statistics, World(), padded_length)
    loss, _ = objective.loss(statistics, tokens)
    loss.backward()
    expected = case["losses"][name]
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-9)
    torch.testing.assert_close(logp.grad, flat(case, expected["grad"]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients(case, name):
    check_loss(case, LOSSES[name], name)


def test_shipped_yamls_have_the_losses_that_are_compared():
    shipped = {name: build_objective(name) for name in ("grpo", "dr_grpo", "justrl", "dapo")}
    clips = {name: (o.clip_low, o.clip_high, o.aggregation) for name, o in shipped.items()}
    assert clips == {
        "grpo": (0.2, 0.2, "seq-mean-token-mean"),
        "dr_grpo": (0.2, 0.2, "seq-mean-token-sum-norm"),
        "justrl": (0.2, 0.28, "token-mean"),
        "dapo": (0.2, 0.28, "token-mean"),
    }
