"""The callbacks that every run has, unless one is left out by its name.

`sampler.py` samples completions, `progress.py` shows the progress bar, and `checkpoint.py` writes
checkpoints. `rollout_log.py` shows some completions, `summary.py` prints the table at the end, and
`alarms.py` warns if nothing can be learned. `insight.py` shows what each step does to its tokens,
and keeps the tokens on disk.
"""

from stapo_pl.training.callbacks.alarms import Alarms
from stapo_pl.training.callbacks.checkpoint import RolloutCheckpoint
from stapo_pl.training.callbacks.insight import TokenInsight
from stapo_pl.training.callbacks.progress import RunProgress
from stapo_pl.training.callbacks.rollout_log import RolloutLog
from stapo_pl.training.callbacks.sampler import SamplerCallback
from stapo_pl.training.callbacks.summary import RunSummary

__all__ = [
    "Alarms",
    "RolloutCheckpoint",
    "RolloutLog",
    "RunProgress",
    "RunSummary",
    "SamplerCallback",
    "TokenInsight",
]
