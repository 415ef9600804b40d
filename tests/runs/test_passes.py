"""Passes without gradient: as many as are used."""

from __future__ import annotations

import pytest

from stapo_pl.training.module import PolicyModule
from stapo_pl.training.workload import passes_of_a_step
from support.fitting import fit, make, read_scalars

# Of a rollout of two mini-batches: those of statistics at its start, and later ones.
SCORED = {
    ("recompute", 1, "objective=grpo"): 1,  # the first update serves as its own
    ("sampler", 1, "objective=grpo"): 0,
    ("recompute", 2, "objective=grpo"): 2,
    ("recompute", 1, "objective=grpo objective.correction=TokenTIS"): 2,
    ("recompute", 1, "objective=grpo model.dropout=true"): 2,
    ("sampler", 1, "objective=grpo model.dropout=true"): 1,
    ("recompute", 1, "objective=grpo objective.kl_coef=0.1"): 1 + 2,  # of the reference, too
    ("recompute", 1, "objective=stapo"): 2 + 1,
    ("sampler", 1, "objective=stapo"): 1 + 1,
    ("recompute", 2, "objective=stapo"): 2 + 3,
    ("sampler", 2, "objective=stapo"): 1 + 3,
    ("recompute", 1, "objective=entropy20"): 2,  # selects by statistics of the rollout's start
    ("sampler", 1, "objective=entropy20"): 2,
    ("recompute", 1, "objective=otb"): 2,
    ("sampler", 1, "objective=otb"): 2,
    ("sampler", 1, "objective=otb objective.selection=S2T"): 2 + 1,
}


@pytest.mark.parametrize("old_logprobs, epochs, given", SCORED)
def test_only_what_is_used_is_scored(tmp_path, monkeypatch, old_logprobs, epochs, given):
    passes = []
    forward = PolicyModule._forward
    monkeypatch.setattr(PolicyModule, "_forward", lambda *args: passes.append(1) or forward(*args))
    words = [f"data.old_logprobs={old_logprobs}", *given.split()]
    words += [f"data.epochs_per_rollout={epochs}", "trainer.max_epochs=1", "data.max_new_tokens=16"]
    cli = fit(make(tmp_path, *words, "trainer.check_val_every_n_epoch=9", "data.prune=false"))
    micro_batches, steps = 2, 2 * epochs
    assert len(passes) == micro_batches * SCORED[old_logprobs, epochs, given]
    # And so many does a plan count.
    module = cli.model
    planned = passes_of_a_step(
        module.objective, cli.datamodule.sizes, old_logprobs, dropout=module.dropout
    )
    assert steps * (planned - 3) == pytest.approx(len(passes) / micro_batches)
    # Statistics of the rollout's start are compared where they are there anyway.
    drift = "policy/selection_drift" in read_scalars(cli.folder)
    selects = "stapo" in given or "S2T" in given
    assert drift == (selects and (old_logprobs == "recompute" or epochs > 1 or "otb" in given))
