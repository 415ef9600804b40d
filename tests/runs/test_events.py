"""What happens in a run is told to all who listen, with everything aligned."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives import TokenAdvantage
from stapo_pl.training.callbacks import SamplerCallback
from stapo_pl.training.events import MiniBatchDone, RolloutCollected, RolloutDone, StepDone
from support.fitting import VALIDATED, Listener, fit, flat, make, scalars

RARE = ("trainer.check_val_every_n_epoch=9",)


def written(trajectory) -> list[int]:
    """The response tokens that teach."""
    pairs = zip(trajectory.completion.token_ids, trajectory.response_mask, strict=True)
    return [token for token, teaches in pairs if teaches]


def check_aligned(event: MiniBatchDone) -> None:
    tokens, trajectories = event.tokens, event.mini_batch.trajectories
    for number, trajectory in enumerate(trajectories):
        own = tokens.sequence_T == number
        assert tokens.token_ids_T[own].tolist() == written(trajectory)
        assert set(tokens.group_T[own].tolist()) == {trajectory.place}
        rewards = torch.full((int(own.sum()),), trajectory.reward)
        assert torch.equal(tokens.rewards_T[own], rewards)
    lengths = {len(column) for column in vars(event.statistics).values()}
    assert lengths == {len(tokens)} == {len(tokens.weights_T)}


@pytest.mark.parametrize("prune", ["true", "false"])
def test_a_mini_batch_is_told_with_everything_aligned(tmp_path, prune):
    listener, second = Listener(MiniBatchDone), Listener(MiniBatchDone, StepDone, RolloutDone)
    cli = fit(make(tmp_path, *RARE, f"data.prune={prune}"), listener, second)
    assert len(listener.heard) == 4
    for step, event in enumerate(listener.heard):
        check_aligned(event)
        assert event.mini_batch.rollout.version + event.mini_batch.step == step
        for number, trajectory in enumerate(event.mini_batch.trajectories):
            own = event.tokens.sequence_T == number
            advantage = torch.full((int(own.sum()),), trajectory.advantage)
            assert torch.equal(event.tokens.advantages_T[own], advantage)
        # Each token that was left out has the weight of one that teaches.
        rest = sum(len(micro.tokens) for micro in event.mini_batch.left_out)
        assert (rest > 0) == (prune == "true")
        weights_T = event.tokens.weights_T
        assert (weights_T.sum() + rest * weights_T.max()).item() == pytest.approx(1)
        # The curve of the step is the weighted mean of what was told.
        weights_T = event.tokens.curve_weights_T
        assert weights_T.sum().item() == pytest.approx(len(weights_T) + rest)
        told = (event.statistics.entropy_T * weights_T).sum().item() / weights_T.sum().item()
        assert scalars(cli)["policy/entropy"][step][1] == pytest.approx(told, rel=1e-5)
    kinds = [type(event) for event in second.heard]
    assert kinds == [MiniBatchDone, StepDone, MiniBatchDone, StepDone, RolloutDone] * 2


def test_callbacks_may_stand_in_any_order(tmp_path, capsys):
    """Curves, the closing table and what a checkpoint holds are the same."""
    outcomes = []
    for seed in (None, 1, 2):
        cli = make(tmp_path, "trainer.max_epochs=1", VALIDATED)
        if seed is not None:
            random.Random(seed).shuffle(cli.trainer.callbacks)
        fit(cli)
        curves = {
            name: values
            for name, values in scalars(cli).items()
            if not name.startswith(("time/", "throughput/"))
        }
        table = [
            line
            for line in capsys.readouterr().out.splitlines()
            if line.startswith(("val/", "reward/", "policy/"))
        ]
        (path,) = cli.folder.glob("checkpoints/rollout-*.ckpt")
        saved = torch.load(path, weights_only=False)["callbacks"]["RunSummary"]["seen"]
        outcomes.append((curves, table, saved["policy/entropy"], saved["reward/mean"]))
    assert outcomes[0] == outcomes[1] == outcomes[2] and len(outcomes[0][1]) > 5


def test_a_response_with_a_gap_trains(tmp_path):
    """Tokens in the middle of a response that the policy did not write, as a tool's answer is."""

    def cut_gaps(event: RolloutCollected) -> None:
        for group in event.rollout.groups:
            for trajectory in group:
                length = len(trajectory.response_mask)
                trajectory.response_mask[length // 3 : 2 * length // 3] = [False] * (
                    2 * length // 3 - length // 3
                )

    gaps, told = Listener(RolloutCollected, act=cut_gaps), Listener(MiniBatchDone)
    cli = make(tmp_path, *RARE, "objective=stapo", "objective.kl_coef=0.01")
    start = flat(cli.model.policy) if cli.model.policy else None
    fit(cli, gaps, told)
    for event in told.heard:
        check_aligned(event)
        assert any(not all(t.response_mask) for t in event.mini_batch.trajectories)
    curves = scalars(cli)
    # Log-probabilities before and behind a gap are those of the sampler, which saw it as well.
    assert max(value for _, value in curves["rollout/sampler_gap_max"]) < 1e-4
    assert all(value > 0 for _, value in curves["policy/grad_norm"][1:])
    assert start is None or not torch.equal(start, flat(cli.model.policy))


@dataclass
class Surprise(TokenAdvantage):
    """The sequence's advantage, less that of its group's mean reward, times 1 - p of the token."""

    def advantages(self, tokens, statistics, world):
        size = int(world.gather(tokens.group_T).max()) + 1
        sums, counts = torch.zeros(size), torch.zeros(size)
        sums.index_add_(0, tokens.group_T, tokens.rewards_T)
        counts.index_add_(0, tokens.group_T, torch.ones_like(tokens.rewards_T))
        means = world.sum(sums) / world.sum(counts).clamp(min=1)
        return (tokens.advantages_T - means[tokens.group_T]) * (1 - statistics.logprobs_T.exp())


@pytest.mark.parametrize("old_logprobs", ["recompute", "sampler"])
def test_token_advantages_are_made_before_tokens_are_selected(tmp_path, old_logprobs):
    told = Listener(MiniBatchDone)
    cli = make(tmp_path, *RARE, "objective=stapo", f"data.old_logprobs={old_logprobs}")
    cli.model.objective.token_advantage = Surprise()
    fit(cli, told)
    for event in told.heard:
        tokens, statistics = event.tokens, event.mini_batch.behavior
        first = torch.tensor([t.advantage for t in event.mini_batch.trajectories])
        factor_T = 1 - statistics.logprobs_T.exp()
        for group in tokens.group_T.unique():
            own = tokens.group_T == group
            mean = tokens.rewards_T[own].mean()
            expected = (first[tokens.sequence_T[own]] - mean) * factor_T[own]
            torch.testing.assert_close(tokens.advantages_T[own], expected)
        silenced = tokens.weights_T == 0
        assert (tokens.advantages_T[silenced] > 0).all()


def test_nothing_of_a_rollout_is_held_when_the_next_one_is_sampled(tmp_path):
    """The sampler may need the memory."""
    cli = make(tmp_path, *RARE)
    links = []

    def note(event: RolloutCollected) -> None:
        links.append((getattr(cli.model, "_mini_batch", None), [*cli.model.learner._statistics]))

    fit(cli, Listener(RolloutCollected, act=note))
    assert links == [(None, [])] * 2


def test_two_samplers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="one SamplerCallback, got 2"):
        fit(make(tmp_path), SamplerCallback())
