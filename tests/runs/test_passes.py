"""Passes without gradient: as many as are used."""

from __future__ import annotations

import pytest

from stapo_pl.training.module import PolicyModule
from support.fitting import fit, make, read_scalars

# Of a rollout of two mini-batches: those of statistics at its start, and later ones.
SCORED = {
    ("recompute", "grpo", 1): 1,  # the first update serves as its own
    ("sampler", "grpo", 1): 0,
    ("recompute", "stapo", 1): 2 + 1,
    ("sampler", "stapo", 1): 1 + 1,
    ("recompute", "stapo", 2): 2 + 3,
    ("sampler", "stapo", 2): 1 + 3,
    ("recompute", "entropy20", 1): 2,  # selects by statistics of the rollout's start
    ("sampler", "entropy20", 1): 2,
}


@pytest.mark.parametrize("old_logprobs, objective, epochs", SCORED)
def test_only_what_is_used_is_scored(tmp_path, monkeypatch, old_logprobs, objective, epochs):
    passes = []
    forward = PolicyModule._forward
    monkeypatch.setattr(PolicyModule, "_forward", lambda *args: passes.append(1) or forward(*args))
    words = [f"data.old_logprobs={old_logprobs}", f"objective={objective}"]
    words += [f"data.epochs_per_rollout={epochs}", "trainer.max_epochs=1", "data.max_new_tokens=16"]
    cli = fit(make(tmp_path, *words, "trainer.check_val_every_n_epoch=9"))
    micro_batches = 2
    assert len(passes) == micro_batches * SCORED[old_logprobs, objective, epochs]
    # Statistics of the rollout's start are compared where they are there anyway.
    drift = "policy/selection_drift" in read_scalars(cli.folder)
    assert drift == (objective == "stapo" and (old_logprobs == "recompute" or epochs > 1))
