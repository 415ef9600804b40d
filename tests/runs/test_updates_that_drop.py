"""No pass of an update that drops becomes the old policy."""

from __future__ import annotations

import pytest

from stapo_pl.training.module import PolicyModule
from support.fitting import fit, make, read_scalars


@pytest.mark.parametrize("old_logprobs", ["recompute", "sampler"])
def test_no_pass_that_drops_becomes_the_old_policy(tmp_path, monkeypatch, old_logprobs):
    passes = []
    for name in ("statistics", "current"):
        monkeypatch.setattr(PolicyModule, name, noting(passes, name))
    words = ("model.lora={rank: 4, dropout: 0.5}", "model.dropout=true", "objective=grpo")
    words += ("model.optimizer.lr=1e-3", "model.warmup_steps=0", "trainer.max_epochs=2")
    with pytest.warns(UserWarning, match="model.dropout=true: updates drop activations"):
        cli = fit(make(tmp_path, *words, f"data.old_logprobs={old_logprobs}"))
    curves = read_scalars(cli.folder)
    # In the second rollout adapters are no longer 0, so that their dropout is seen.
    assert curves["policy/ratio_max"][2][1] > 1.001
    assert all(gap < 1e-4 for _, gap in curves["rollout/sampler_gap_max"])
    # Never between a pass with gradient and its backward pass, where memory is scarcest.
    if old_logprobs == "sampler":
        assert passes == ["statistics", "current"] * 2 + ["current"] * 2 + passes[6:]


def noting(passes: list[str], name: str):
    """A pass of the module that writes down its name first."""
    real = getattr(PolicyModule, name)
    return lambda *args: passes.append(name) or real(*args)
