"""Advantages by rewards: exact zeros, the forms without golden numbers, and what ranks share."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.types import Rollout
from stapo_pl.core.world import World
from stapo_pl.rollout.advantages import Estimator, fill_advantages, group_advantages, mixed_groups
from support.carriers import trajectory

WHITENED = ("reinforce_pp", "reinforce_pp_baseline")


@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_equal_rewards_give_exactly_zero_advantage(estimator):
    rewards = torch.tensor([[0.1] * 8, [0.7] * 8], dtype=torch.float32)
    if estimator in WHITENED:  # they compare groups
        rewards[1] = rewards[0]
    lengths = torch.arange(1, 17).view(2, 8)
    assert not group_advantages(rewards, lengths, estimator, World()).any()


def test_mixed_groups():
    rewards = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.4, 0.4], [0.4, 0.5]])
    assert mixed_groups(rewards).tolist() == [False, True, False, False, True]


def advantages(estimator, rewards, lengths=None):
    rewards_PG = torch.tensor(rewards, dtype=torch.float64)
    lengths_PG = torch.ones_like(rewards_PG).long() if lengths is None else torch.tensor(lengths)
    return group_advantages(rewards_PG, lengths_PG, estimator, World())


def test_maxrl_divides_by_the_mean_reward():
    """One right answer of four weighs 3 and each wrong one -1: likelihood, not accuracy."""
    hard, easy = advantages("maxrl", [[1, 0, 0, 0], [1, 1, 1, 0]])
    torch.testing.assert_close(hard, torch.tensor([3.0, -1, -1, -1]).double(), rtol=1e-5, atol=0)
    assert easy[0] == pytest.approx(1 / 3, rel=1e-5) and easy[3] == pytest.approx(-1, rel=1e-5)


def test_maxrl_refuses_negative_rewards():
    with pytest.raises(TrainingError, match=r"maxrl divides by the mean.* 2 rewards .* negative"):
        advantages("maxrl", [[1, -1], [-0.5, 0]])


def test_the_std_of_all_responses_scales_all_groups_alike():
    rewards = [[1, 0, 0, 0], [1, 1, 1, 0]]
    scaled, plain = advantages("grpo_batch_std", rewards), advantages("dr_grpo", rewards)
    ratio = (scaled / plain).unique()
    std = torch.tensor(rewards).double().std()
    torch.testing.assert_close(ratio, (1 / (std + 1e-6)).expand_as(ratio))


def test_leaving_one_out_is_rloo_over_the_std():
    rewards = [[1, 0, 0, 0.5]]
    std = torch.tensor(rewards).double().std()
    expected = advantages("rloo", rewards) / (std + 1e-6)
    torch.testing.assert_close(advantages("grpo_loo", rewards), expected)


def test_only_tokens_that_teach_count_as_length():
    right = trajectory([1], [2] * 5, reward=1.0, mask=[True, True, False, False, False])
    wrong = [trajectory([1], [2] * n, reward=0.0) for n in (3, 4, 4)]
    rollout = Rollout(0, groups=[[right, wrong[0]], wrong[1:]])
    fill_advantages(rollout, 2, "opo", World(), torch.device("cpu"))
    got = [[t.advantage for t in group] for group in rollout.groups]
    assert got == [[pytest.approx(1 - 2 / 5), pytest.approx(-2 / 5)], [0, 0]]
