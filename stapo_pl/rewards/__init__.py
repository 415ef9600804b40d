"""Rewards: each judges a response to a problem and returns a score.

`base.py` says what a reward is. Each reward is one file: `exact.py`, `math.py`, `gsm8k.py`,
`dapo.py` and `reasoning_gym.py` check answers, `format.py` and `length.py` look at the form of a
response, `weighted.py` adds rewards up, and `function.py` calls a function of the user's.
`answers/` finds answers in responses and compares them. `grading/` runs rewards in processes that
can be killed. A new reward is a new file with a subclass of `Reward`, and a YAML in
configs/reward/.
"""

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
