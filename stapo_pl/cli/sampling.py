"""Samples and grades groups once with any model, for the inspector. The model does not change."""

from __future__ import annotations

from pathlib import Path

from stapo_pl.cli import fit
from stapo_pl.cli.configs import config_dir
from stapo_pl.cli.grammar import FIT, OverrideError, expand
from stapo_pl.core.errors import ConfigError
from stapo_pl.training.runs import run_folders

# One rollout of a run whose learning rate is 0, so that every figure is made by the code of runs.
_FIXED = (
    "trainer.max_epochs=1", "model.optimizer.lr=0", "data.prune=false", "recorder.tokens=all",
    "trainer.limit_val_batches=0", "trainer.without=[RolloutCheckpoint,RunSummary]",
)  # fmt: skip


def sample(model: str, words: list[str]) -> Path:
    """Returns the run folder of one rollout of a model.

    Args:
        model: a model folder or hub name.
        words: words of `stapo fit`, such as the task and the number of prompts.

    Raises:
        ConfigError: a word is wrong.
    """
    name = f"inspect-{Path(model).name}"
    words = [f"model.path={model}", *words, *_FIXED, f"run.name={name}", "run.logs=logs"]
    try:
        flags = expand(words, config_dir(), FIT)
    except OverrideError as error:
        raise ConfigError(str(error)) from None
    fit.main(flags, config_dir())
    return run_folders(Path("logs") / name)[-1]
