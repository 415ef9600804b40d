"""Ten optimizer steps of every objective, on recorded rollouts, give the recorded curves.

The rollouts in golden/rollouts.json.gz were written by the shipped policy through the transformers
sampler. They are replayed whatever the weights are, so that a curve depends on nothing but the
passes, the objective and the optimizer. golden/objectives.json holds the curves, each value with
all digits of its float32, and the words that made them.

Another CPU rounds otherwise, so figures are compared with a tolerance. STAPO_EXACT=1 compares them
to the last bit: the code before and after a change, on the machine that recorded them.

`python tests/test_curves.py` records both files again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, OBJECTIVES
from replay import ROLLOUTS
from test_fit import read_scalars

from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import expand

GOLDEN = Path(__file__).parent / "golden" / "objectives.json"
CURVES = ("policy/loss", "policy/grad_norm", "policy/silenced_fraction", "policy/entropy")
STEPS = 10
# Adam divides the rounding of a small gradient by its size, and so makes it a large one.
WORDS = [
    "data.prompts_per_rollout=8", "data.prompts_per_mini_batch=4", "data.group_size=4",
    "trainer.max_epochs=5", "trainer.accumulate_grad_batches=2",
    "trainer.check_val_every_n_epoch=5", "data.validation.samples=1", "task.validation_size=1",
    "task.train_size=256", "model.optimizer=SGD", "model.optimizer.lr=0.5", "model.warmup_steps=0",
    "data.grading.workers=1", "data.temperature=1.2",
]  # fmt: skip
# The shipped policy writes few tokens as rare as the paper's; with this bound some are silenced.
RARE = {"stapo": ["objective.tau_p=0.3"], "stapo_v1": ["objective.tau_p=0.3"]}


def words_of(objective: str) -> list[str]:
    return [f"objective={objective}", *WORDS, *RARE.get(objective, [])]


def curves_of(words: list[str], logs: Path) -> dict[str, list[float]]:
    """Trains, and gives each curve's values, one an optimizer step."""
    cli = StapoCLI(expand([*words, f"run.logs={logs}"], CONFIGS), CONFIGS)
    cli.fit()
    scalars = read_scalars(cli.folder)
    for name in CURVES:
        assert [step for step, _ in scalars[name]] == list(range(STEPS)), name
    return {name: [value for _, value in scalars[name]] for name in CURVES}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """How a sum is shared among threads is a part of its rounding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_curves_are_the_recorded_ones(tmp_path, one_thread, objective):
    recorded = json.loads(GOLDEN.read_text())[objective]
    assert recorded["words"] == words_of(objective), "not recorded since the words were changed"
    curves = curves_of([*words_of(objective), "sampler=replay.Replay"], tmp_path)
    for name in CURVES:
        expected = recorded[name]
        if os.environ.get("STAPO_EXACT") != "1":
            expected = pytest.approx(expected, rel=1e-5, abs=1e-7)
        assert curves[name] == expected, name


def record() -> None:
    """Samples the rollouts of all objectives, then trains each of them on these."""
    torch.set_num_threads(1)
    ROLLOUTS.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as logs:
        for objective in OBJECTIVES:
            sampler = ["sampler=replay.Record", f"sampler.file={ROLLOUTS}"]
            curves_of([*words_of(objective), *sampler], Path(logs))
        recorded = {
            objective: {
                "words": words_of(objective),
                **curves_of([*words_of(objective), "sampler=replay.Replay"], Path(logs)),
            }
            for objective in OBJECTIVES
        }
    GOLDEN.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    record()
