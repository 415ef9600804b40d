"""A run that leaves sequences out learns what a run that passes all of them learns."""

from __future__ import annotations

import pytest
import torch

from stapo_pl.training.events import RolloutCollected, StepDone
from support.fitting import Listener, fit, flat, make, scalars

WORDS = (
    "trainer.max_epochs=10", "trainer.check_val_every_n_epoch=99", "model.warmup_steps=0",
    "model.optimizer.weight_decay=0.1",
)  # fmt: skip
EMPTY = [7, 11, 15]
"""Steps whose mini-batches teach nothing."""


def train(folder, prune: bool):
    """The run, and the weights after each of its 20 steps."""
    collected, weights = Listener(RolloutCollected), []

    def silence(event) -> None:
        rollout = len(collected.heard)
        for group in event.rollout.groups:
            for trajectory in group:
                if 2 * rollout + trajectory.place // 4 in EMPTY:
                    trajectory.advantage = 0.0

    collected.act = silence
    steps = Listener(StepDone, act=lambda event: weights.append(flat(cli.model.policy)))
    cli = make(folder, *WORDS, f"data.prune={str(prune).lower()}")
    fit(cli, collected, steps)
    return cli, weights


def test_weights_are_the_same_after_mini_batches_that_teach_nothing(tmp_path):
    (whole, expected), (pruned, found) = (train(tmp_path / str(p), p) for p in (False, True))
    assert len(expected) == len(found) == 20
    norms = [[value for _, value in scalars(c)["policy/grad_norm"]] for c in (whole, pruned)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert all(norms[0][step] == 0 for step in EMPTY) and max(norms[0]) > 0
    left_out = [value for _, value in scalars(pruned)["policy/pruned_fraction"]]
    assert min(left_out[step] for step in EMPTY) > 0.5
    for step in EMPTY:  # momentum and weight decay move them all the same
        assert (expected[step] - expected[step - 1]).norm() > 1e-3
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine - theirs).norm() < 1e-4 * (theirs - expected[0]).norm() + 1e-4
    assert not torch.equal(expected[0], expected[-1])
