"""What a task is: problems to train and validate on, and the reward that judges an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from stapo_pl.rewards.base import Score


@dataclass
class Problem:
    """One row of a task.

    Example:
        >>> Problem(messages=[{"role": "user", "content": "Compute 2+2."}], answer="4")
        Problem(messages=[{'role': 'user', 'content': 'Compute 2+2.'}], answer='4', data_source='')
    """

    messages: list[dict[str, str]]
    """The conversation so far, as chat messages (`role`, `content`)."""
    answer: str
    """The ground truth that the reward compares with."""
    data_source: str = ""
    """Where the row comes from, for metrics by source."""


class Task(ABC):
    """Prompts, answers and the reward between them. One task is one file."""

    @abstractmethod
    def train_problems(self) -> Sequence[Problem]: ...

    @abstractmethod
    def validation_problems(self) -> Sequence[Problem]: ...

    @abstractmethod
    def score(self, response: str, problem: Problem) -> Score:
        """Judges the text of one response. Must not raise, whatever the model wrote."""
