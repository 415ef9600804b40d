"""Losses that verl 0.9.1 computed, and the comparison with them."""

from __future__ import annotations

import json

import pytest
import torch

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.world import World
from stapo_pl.rollout.advantages import group_advantages
from support.places import GOLDEN

CASES = json.loads((GOLDEN / "verl_0.9.1.json").read_text())["cases"]


def flat(case, rows) -> torch.Tensor:
    """Right-padded rows [B, L] as response tokens [T]."""
    rows = torch.tensor(rows, dtype=torch.float64)
    return torch.cat([row[:n] for row, n in zip(rows, case["lengths"], strict=True)])


def advantages(case, estimator: str) -> torch.Tensor:
    rewards_PG = torch.tensor(case["rewards"], dtype=torch.float64).view(-1, case["group_size"])
    lengths_PG = torch.tensor(case["lengths"]).view(-1, case["group_size"])
    return group_advantages(rewards_PG, lengths_PG, estimator, World()).flatten()


def response_tokens(case) -> tuple[Tokens, TokenStatistics]:
    """The response tokens, and the statistics under the policy that made the rollout."""
    lengths = torch.tensor(case["lengths"])
    sequence_T = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    old_logprobs_T = flat(case, case["old_logp"])
    tokens = Tokens(
        token_ids_T=torch.zeros_like(sequence_T),
        sequence_T=sequence_T,
        advantages_T=advantages(case, "grpo")[sequence_T],
        sampler_logprobs_T=old_logprobs_T,
        rewards_T=torch.tensor(case["rewards"], dtype=torch.float64)[sequence_T],
        group_T=sequence_T // case["group_size"],
        old_logprobs_T=old_logprobs_T,
        random_T=torch.arange(len(sequence_T)),
    )
    entropy_T, collision_T = flat(case, case["entropy"]), flat(case, case["collision"])
    return tokens, TokenStatistics(old_logprobs_T, entropy_T, collision_T)


def check_loss(case, objective, name: str, tolerance: float = 1e-9) -> None:
    """Compares an objective's loss and its gradient with the ones that verl gave for `name`."""
    tokens, behavior = response_tokens(case)
    logp = flat(case, case["logp"]).requires_grad_()
    statistics = TokenStatistics(logp, behavior.entropy_T, behavior.collision_T)
    padded_length = len(case["logp"][0])
    objective.set_weights(tokens, statistics.detach(), World(), padded_length)
    loss, _ = objective.loss(statistics, tokens)
    loss.backward()
    expected = case["losses"][name]
    assert loss.item() == pytest.approx(expected["loss"], abs=tolerance)
    torch.testing.assert_close(logp.grad, flat(case, expected["grad"]), rtol=0, atol=tolerance)
