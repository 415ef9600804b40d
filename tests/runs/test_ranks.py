"""Two processes train as one does: the same prompts, seeds, weights and curves."""

from __future__ import annotations

import pytest

from support.fitting import VALIDATED, read_scalars
from support.ranks import run, run_as_a_user

# Responses judged in workers of each rank; two sets to validate on, of a prompt each, so that the
# second rank has none.
DATA = ("reward=weighted", "benchmark=arithmetic,OTHER", "benchmark.validation_size=1")
OTHER = "task: {class_path: stapo_pl.tasks.Arithmetic, init_args: {steps: 2}}"


@pytest.mark.parametrize(
    "objective, trainer, words, starts",
    [("dapo", "ddp", DATA, run_as_a_user), ("stapo", "fsdp", (), run)],
)
def test_the_curves_of_two_ranks_are_those_of_one(tmp_path, objective, trainer, words, starts):
    (tmp_path / "other.yaml").write_text(OTHER)
    words = tuple(word.replace("OTHER", str(tmp_path / "other.yaml")) for word in words)
    words += (f"objective={objective}", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1")
    words += (VALIDATED, "data.prune=false")  # or each rank draws sequences of its own for curves
    one = read_scalars(run(tmp_path / "1", 1, *words))
    two = read_scalars(starts(tmp_path / "2", 2, *words, f"trainer={trainer}"))
    assert one.keys() == two.keys()
    assert ("val/other/accuracy" in one) == ("reward/terms/format" in one) == (trainer == "ddp")
    for name, values in one.items():
        if not name.startswith(("time/", "throughput/", "rollout/sampler_gap")):
            expected = [(step, pytest.approx(value, rel=2e-3, abs=1e-5)) for step, value in values]
            assert two[name] == expected, name
