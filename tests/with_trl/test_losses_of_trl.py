"""Losses and gradients are those of TRL 1.16, whose trainer computes them from given completions.

`GRPOTrainer.compute_loss` runs as it is, on a small random model, and the gradients of all
parameters are compared. Where TRL has another definition, the objective here has the setting that
equals it.

- cispo: TRL bounds the ratio from above only, and `epsilon_high` is the bound itself. Here that is
  `clip_low=1` and `clip_high=epsilon_high - 1`.
- bnpo: it is the mean over the tokens of a micro-batch. That is our token-mean if a step is one
  micro-batch. If it is several, nothing here equals it, because no loss here depends on the cut.
- grpo, dr_grpo and sapo average over the responses of each micro-batch. Those of TRL have equally
  many, so that this is the average over the step.
- dapo and cispo divide by the mean number of tokens of the steps that a rollout is trained on. That
  is our token-mean if a rollout is one step, as it is here.
- sapo: TRL's temperatures are float32, so they are numbers that float32 has.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch

from stapo_pl.core.batches import MicroBatch, Tokens
from stapo_pl.core.types import Trajectory
from stapo_pl.core.world import World
from stapo_pl.policy.model import Policy
from stapo_pl.rollout.batching import collate_all
from support.carriers import trajectory
from support.policies import tiny_model
from support.trl import PAIRS, InFloat64, loss_of, make_inputs, make_trainer

pytestmark = pytest.mark.trl

VOCABULARY, RESPONSES, LONGEST = 40, 8, 16


@dataclass
class Setting:
    """A model, responses, and their log-probabilities under a policy nearby."""

    model: torch.nn.Module
    trajectories: list[Trajectory]
    micro: MicroBatch

    def ours(self, objective) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """The loss, the gradient and the metrics of an objective."""
        policy, tokens = Policy(copy.deepcopy(self.model)), Tokens.cat([self.micro.tokens])
        objective.set_weights(tokens, None, World(), LONGEST)
        loss, metrics = objective.loss(policy(self.micro), tokens)
        loss.backward()
        return loss.detach(), gradient(policy.model), metrics

    def theirs(
        self, folder, settings, micro_batches: int = 1, in_float64: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss and the gradient of TRL's trainer."""
        model = copy.deepcopy(self.model)
        trainer = make_trainer(folder, model, LONGEST, **settings)
        inputs = make_inputs(self.trajectories, self.micro.tokens)
        loss = loss_of(trainer, InFloat64(model) if in_float64 else model, inputs, micro_batches)
        loss.backward()
        return loss.detach(), gradient(model)


@pytest.fixture(scope="module")
def setting() -> Setting:
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> list[int]:
        return torch.randint(2, VOCABULARY, (count,), generator=generator).tolist()

    trajectories = [
        trajectory(drawn(3 + i % 4), drawn(2 + (7 * i) % 11), advantage)
        for i, advantage in enumerate(torch.randn(RESPONSES, generator=generator).tolist())
    ]
    (micro,) = collate_all([trajectories], temperature=1.0)
    model = tiny_model(VOCABULARY, seed=1)
    old_policy = Policy(copy.deepcopy(model))
    with torch.no_grad():
        for p in old_policy.parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        micro.tokens.old_logprobs_T = old_policy(micro).logprobs_T
    return Setting(model, trajectories, micro)


def gradient(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference over that of what is expected."""
    assert expected.norm() > 0
    return ((found - expected).norm() / expected.norm()).item()


CUTS = [(name, count) for name in PAIRS for count in (1, 2) if (name, count) != ("bnpo", 2)]


@pytest.mark.parametrize(("name", "micro_batches"), CUTS)
def test_losses_and_gradients_are_those_of_trl(name, micro_batches, setting, tmp_path):
    objective, settings = PAIRS[name]
    loss, grad, metrics = setting.ours(objective)
    their_loss, their_grad = setting.theirs(tmp_path, settings, micro_batches)
    assert error(loss, their_loss) < 1e-9
    assert error(grad, their_grad) < 1e-9
    if "clip_fraction_high" in metrics:  # some tokens are clipped, and some are not
        assert 0 < metrics["clip_fraction_high"].double().mean() < 1


def test_bnpo_of_trl_depends_on_the_cut(setting, tmp_path):
    _, settings = PAIRS["bnpo"]
    whole, cut = (setting.theirs(tmp_path, settings, count) for count in (1, 2))
    assert 0.01 < error(cut[1], whole[1]) < 0.1


@pytest.mark.parametrize("name", PAIRS)
def test_they_are_so_through_the_head_of_trl(name, setting, tmp_path):
    """It computes log-probabilities in float32, whose precision is 1.2e-7."""
    objective, settings = PAIRS[name]
    loss, grad, _ = setting.ours(objective)
    their_loss, their_grad = setting.theirs(tmp_path, settings, in_float64=False)
    assert error(loss, their_loss) < 1e-5
    assert error(grad, their_grad) < 1e-5
