"""Runs of one or two processes, and the comparison of their curves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.commands import Command, run_ranks
from support.fitting import FEW_PROBLEMS, SMALL, read_scalars

STEPS = 10
WORDS = (*SMALL, *FEW_PROBLEMS, "trainer.accelerator=cpu", f"trainer.max_epochs={STEPS // 2}")
WORDS += ("trainer.check_val_every_n_epoch=99", "task.validation_size=9")


def _words(folder: Path, ranks: int, *words: str) -> list[str]:
    """A run whose mini-batches are cut into four, whatever the number of ranks."""
    made = [*WORDS, f"trainer.accumulate_grad_batches={4 // ranks}", f"trainer.devices={ranks}"]
    made += [*(["trainer=fsdp"] if ranks > 1 else []), *words]
    return [*made, f"run.logs={folder}", "run.name=run"]


def start(folder: Path, ranks: int, *words: str) -> subprocess.CompletedProcess:
    """A run whose first rank starts the others."""
    return Command("fit", *_words(folder, ranks, *words)).wait()


def run(folder: Path, ranks: int, *words: str) -> Path:
    """The folder of a run whose ranks are started as torchrun does."""
    result = run_ranks("fit", ranks, *_words(folder, ranks, *words))
    assert result.returncode == 0, result.stderr
    return folder_of(folder)


def run_as_a_user(folder: Path, ranks: int, *words: str) -> Path:
    """The folder of a run whose first rank starts the others."""
    result = start(folder, ranks, *words)
    assert result.returncode == 0, result.stderr
    return folder_of(folder)


def folder_of(logs: Path) -> Path:
    (newest,) = (logs / "run").iterdir()  # one folder, whatever the number of ranks
    return newest


SAME = ("loss", "grad_norm", "silenced_fraction")


def assert_equal_curves(
    actual: Path,
    expected: Path,
    steps: int,
    tolerance: float = 1e-6,
    names: tuple[str, ...] = (*SAME, "kl_reference"),
) -> None:
    actual, expected = read_scalars(actual), read_scalars(expected)
    for name in names:
        curve = expected[f"policy/{name}"]
        assert len(curve) == steps
        bounds = [(step, pytest.approx(v, rel=tolerance, abs=tolerance)) for step, v in curve]
        assert actual[f"policy/{name}"] == bounds, name


def recorded(folder: Path, *words: str, kl_coef: float = 0.1) -> tuple[Path, tuple[str, ...]]:
    """The folder of a run of one process, and the words of others on the same rollouts."""
    sampler = ("sampler=support.recording.Recording", f"sampler.file={folder / 'rollouts.pt'}")
    # Adam divides the rounding of a small gradient by its size, and so makes it a large one.
    words += (
        "model.optimizer=SGD",
        "model.optimizer.lr=0.1",
        f"objective.kl_coef={kl_coef}",
        *sampler,
    )
    one = run(folder / "recorded", 1, *words, "sampler.replay=false")
    return one, (*words, "sampler.replay=true")


SHARDED = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2")


OFFLOAD, COMPILE, PACK, CHECKPOINT = ALL = (
    "trainer.strategy.cpu_offload=true", "model.compile_layers=true", "model.packing=true",
    "model.gradient_checkpointing=true",
)  # fmt: skip


def check_ten_steps(folder: Path, objective: str) -> None:
    """Ten steps of two ranks are those of one, on the same rollouts."""
    one, words = recorded(folder, f"objective={objective}")
    assert_equal_curves(run(folder, 2, *words), one, STEPS)
