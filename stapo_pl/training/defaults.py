"""The callbacks, the logger and the plugins that a run has by default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.plugins.environments import ClusterEnvironment

from stapo_pl.core.errors import ConfigError
from stapo_pl.training.callbacks import (
    Alarms,
    RolloutCheckpoint,
    RolloutLog,
    RunProgress,
    RunSummary,
    SamplerCallback,
    TokenInsight,
)
from stapo_pl.training.callbacks.insight import Insight
from stapo_pl.training.checkpoint_io import AtomicCheckpointIO
from stapo_pl.training.loggers import TensorBoard
from stapo_pl.training.runs import Run

# The callbacks of this project that can be left out. A run always needs its sampler.
CallbackName = Literal[
    "RunProgress", "RolloutLog", "RunSummary", "Alarms", "TokenInsight", "RolloutCheckpoint"
]

# The types that Lightning accepts as a plugin.
Plugin = Precision | ClusterEnvironment | CheckpointIO | LayerSync


def callbacks(
    given: list[L.Callback] | L.Callback | None,
    run: Run,
    insight: Insight | None,
    without: Sequence[str],
) -> list[L.Callback]:
    """Returns the given callbacks, and adds those of this project that are missing.

    Args:
        given: the user's callbacks. A callback of one of this project's classes is not added again.
        run: the settings of checkpoints and of completions that are shown.
        insight: the settings of what is shown and kept of tokens.
        without: the names of callbacks that are left out.

    Raises:
        ConfigError: there is no such callback.
    """
    if unknown := [name for name in without if name not in get_args(CallbackName)]:
        known = ", ".join(get_args(CallbackName))
        raise ConfigError(f"trainer.without={unknown}: there are {known}")
    given = list(given) if isinstance(given, Iterable) else [given] * (given is not None)
    own: dict[type, Any] = {
        # The key is Lightning's class, so any other progress bar replaces this one.
        ProgressBar: RunProgress,
        RolloutLog: lambda: RolloutLog(run.completions, run.completions_every),
        RunSummary: RunSummary,
        Alarms: Alarms,
        TokenInsight: lambda: TokenInsight(insight),
        RolloutCheckpoint: lambda: RolloutCheckpoint(run.checkpoint_every, run.checkpoint_keep),
        SamplerCallback: SamplerCallback,
    }
    left_out = {"ProgressBar" if name == "RunProgress" else name for name in without}
    shown = "TokenInsight" not in left_out and not any(isinstance(c, TokenInsight) for c in given)
    if not shown and insight not in (None, Insight()):
        raise ConfigError(
            "insight and recorder have settings, but the callback that uses them is left out or "
            "replaced by one of yours: set one or the other"
        )
    for kind, make in own.items():
        is_there = any(isinstance(callback, kind) for callback in given)
        if not is_there and kind.__name__ not in left_out:
            given.append(make())
    return given


def logger(given: Logger | Iterable[Logger] | bool | None) -> Logger | Iterable[Logger] | bool:
    """Returns the given loggers. The default is TensorBoard in the run folder."""
    return TensorBoard() if given is None or given is True else given


def plugins(given: Plugin | list[Plugin] | None) -> list[Plugin]:
    """Returns the given plugins, and adds the writer of checkpoints unless one is given."""
    given = list(given) if isinstance(given, list | tuple) else [given] * (given is not None)
    is_there = any(isinstance(plugin, CheckpointIO) for plugin in given)
    return given if is_there else [*given, AtomicCheckpointIO()]
