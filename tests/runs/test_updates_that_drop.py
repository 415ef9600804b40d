"""No pass of an update that drops becomes the old policy."""

from __future__ import annotations

import pytest

from support.fitting import fit, make, read_scalars


@pytest.mark.parametrize("old_logprobs", ["recompute", "sampler"])
def test_no_pass_that_drops_becomes_the_old_policy(tmp_path, old_logprobs):
    words = ("model.lora={rank: 4, dropout: 0.5}", "model.dropout=true", "objective=grpo")
    words += ("model.optimizer.lr=1e-3", "trainer.max_epochs=2")
    with pytest.warns(UserWarning, match="model.dropout=true: updates drop activations"):
        cli = fit(make(tmp_path, *words, f"data.old_logprobs={old_logprobs}"))
    curves = read_scalars(cli.folder)
    # In the second rollout adapters are no longer 0, so that their dropout is seen.
    assert curves["policy/ratio_max"][2][1] > 1.001
    assert all(gap < 1e-4 for _, gap in curves["rollout/sampler_gap_max"])
