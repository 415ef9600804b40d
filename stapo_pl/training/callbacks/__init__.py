"""Lightning callbacks: the sampler's life, progress, logs and the closing table."""

from stapo_pl.training.callbacks.alarms import Alarms
from stapo_pl.training.callbacks.checkpoint import RolloutCheckpoint
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
]
