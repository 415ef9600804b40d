"""What the README shows trains."""

from __future__ import annotations

from support.fitting import fit, make, scalars


def test_a_reward_of_ones_own_trains(shown, tmp_path):
    shown("my_rewards")
    curves = scalars(fit(make(tmp_path, "reward=function", "reward.path=my_rewards.score")))
    accuracy, reward = (curves[f"reward/{name}"][0][1] for name in ("accuracy", "mean"))
    assert accuracy - 0.1 < reward < accuracy


def test_an_objective_of_ones_own_trains(own_objective, tmp_path):
    cli = fit(make(tmp_path, "objective=my_objectives.CISPO", "objective.clip_high=0.3"))
    assert isinstance(cli.model.objective, own_objective.CISPO)
    assert cli.model.objective.clip_high == 0.3 and cli.trainer.global_step == 4
