"""What a run has unless somebody says otherwise: callbacks, a logger, whole checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.plugins.environments import ClusterEnvironment

from stapo_pl.training.callbacks import (
    Alarms,
    RolloutCheckpoint,
    RolloutLog,
    RunProgress,
    RunSummary,
    SamplerCallback,
)
from stapo_pl.training.checkpoint_io import AtomicCheckpointIO
from stapo_pl.training.loggers import TensorBoard
from stapo_pl.training.runs import Run

# The callbacks of this project that a run may do without.
CallbackName = Literal["RunProgress", "RolloutLog", "RunSummary", "Alarms", "RolloutCheckpoint"]

# What Lightning takes as one.
Plugin = Precision | ClusterEnvironment | CheckpointIO | LayerSync


def callbacks(
    given: list[L.Callback] | L.Callback | None, run: Run, without: Iterable[str]
) -> list[L.Callback]:
    """The callbacks that are given, and those of this project that are neither given nor left out.

    Args:
        without: names of those to leave out.
    """
    given = list(given) if isinstance(given, Iterable) else [given] * (given is not None)
    own: dict[type, Any] = {
        # A progress bar of somebody else's takes the place of this one.
        ProgressBar: RunProgress,
        RolloutLog: lambda: RolloutLog(run.completions, run.completions_every),
        RunSummary: RunSummary,
        Alarms: Alarms,
        RolloutCheckpoint: lambda: RolloutCheckpoint(run.checkpoint_every, run.checkpoint_keep),
        SamplerCallback: SamplerCallback,
    }
    left_out = {"ProgressBar" if name == "RunProgress" else name for name in without}
    for kind, make in own.items():
        is_there = any(isinstance(callback, kind) for callback in given)
        if not is_there and kind.__name__ not in left_out:
            given.append(make())
    return given


def logger(given: Logger | Iterable[Logger] | bool | None) -> Logger | Iterable[Logger] | bool:
    """The loggers that are given; without a say, TensorBoard in the run's folder."""
    return TensorBoard() if given is None or given is True else given


def plugins(given: Plugin | list[Plugin] | None) -> list[Plugin]:
    """The plugins that are given, and the writer of whole checkpoints where there is none."""
    given = list(given) if isinstance(given, list | tuple) else [given] * (given is not None)
    is_there = any(isinstance(plugin, CheckpointIO) for plugin in given)
    return given if is_there else [*given, AtomicCheckpointIO()]
