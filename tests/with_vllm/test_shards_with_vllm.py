"""vLLM samples from the shards of a policy."""

from __future__ import annotations

import pytest

from support.fitting import read_scalars
from support.ranks import run

pytestmark = pytest.mark.vllm


def test_vllm_samples_from_the_shards(tmp_path):
    words = ("sampler=vllm", "trainer.max_epochs=3", "model.max_sampler_gap_mean=1e-5")
    words += ("model.on_sampler_gap=raise", "objective.entropy_coef=0.1")
    one, two = (read_scalars(run(tmp_path / str(n), n, *words)) for n in (1, 2))
    for name in ("reward/mean", "rollout/tokens", "policy/loss", "policy/grad_norm"):
        expected = [(step, pytest.approx(v, rel=2e-3, abs=1e-5)) for step, v in one[name]]
        assert two[name] == expected, name
