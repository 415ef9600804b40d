"""One file a reward; `base.py` says what a reward is, `grader.py` where it runs."""

from stapo_pl.core.types import Response, Score
from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.dapo import DAPORule
from stapo_pl.rewards.exact import Exact
from stapo_pl.rewards.format import Format
from stapo_pl.rewards.function import Function
from stapo_pl.rewards.gsm8k import GSM8K
from stapo_pl.rewards.length import Length
from stapo_pl.rewards.math import Math
from stapo_pl.rewards.reasoning_gym import ReasoningGymScore
from stapo_pl.rewards.weighted import Term, Weighted

__all__ = [
    "GSM8K",
    "DAPORule",
    "Exact",
    "Format",
    "Function",
    "Length",
    "Math",
    "ReasoningGymScore",
    "Response",
    "Reward",
    "Score",
    "Term",
    "Weighted",
]
