"""Two processes train as one does: the same prompts, seeds, weights and curves."""

from __future__ import annotations

import pytest
from test_fit import read_scalars
from test_fsdp import run


@pytest.mark.parametrize("objective, trainer", [("dapo", "ddp"), ("stapo", "fsdp")])
def test_the_curves_of_two_ranks_are_those_of_one(tmp_path, objective, trainer):
    words = (f"objective={objective}", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1")
    one = read_scalars(run(tmp_path / "1", 1, *words))
    two = read_scalars(run(tmp_path / "2", 2, *words, f"trainer={trainer}"))
    assert one.keys() == two.keys()
    for name, values in one.items():
        if not name.startswith(("time/", "throughput/", "rollout/sampler_gap")):
            expected = [(step, pytest.approx(value, rel=2e-3, abs=1e-5)) for step, value in values]
            assert two[name] == expected, name
