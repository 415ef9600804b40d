"""vLLM samples from merged adapters."""

from __future__ import annotations

import pytest

from support.adapters import LORA
from support.fitting import fit, make, read_scalars

pytestmark = pytest.mark.vllm


def test_vllm_samples_from_merged_adapters(tmp_path):
    words = (*LORA, "sampler=vllm", "model.max_sampler_gap_mean=1e-5", "model.on_sampler_gap=raise")
    cli = fit(make(tmp_path, *words, "model.optimizer.lr=4e-3", "trainer.max_epochs=3"))
    gaps = [value for _, value in read_scalars(cli.folder)["rollout/sampler_gap_max"]]
    assert len(gaps) == 3 and 0 < max(gaps) <= 1e-4
