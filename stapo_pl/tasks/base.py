"""What a task is: problems to train and validate on, and the reward that judges responses."""

from __future__ import annotations

from abc import ABC, abstractmethod

from stapo_pl.core.types import ProblemSet
from stapo_pl.rewards.base import Reward


class Task(ABC):
    """Gives problems and a reward."""

    name: str
    """The name of the task in curves and files."""
    reward: Reward

    @property
    def source(self) -> str:
        """Where its problems come from, for errors."""
        return self.name

    @abstractmethod
    def train_problems(self) -> ProblemSet:
        """The problems to train on."""

    @abstractmethod
    def validation_problems(self) -> ProblemSet:
        """The problems to validate on."""
