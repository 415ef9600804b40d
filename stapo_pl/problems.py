"""What a policy is asked: problems, and what was wrong with the rows that are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Problem:
    """One row of a task.

    Example:
        >>> Problem(messages=[{"role": "user", "content": "Compute 2+2."}], answer="4").answer
        '4'
    """

    messages: list[dict[str, str]]
    """The conversation so far, as chat messages (`role`, `content`)."""
    answer: str
    """The ground truth that the reward compares with."""
    data_source: str = ""
    """Where the row comes from."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What else the reward may need of the row, such as a generator's own record of it."""
    place: str = ""
    """File and row, for messages about it."""
    solution_dropped: bool = False
    """Whether the row's messages ended with the assistant's, which are not asked."""

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """What is asked: equal for duplicates, whatever their answers."""
        return tuple((message["role"], message["content"]) for message in self.messages)


@dataclass
class ProblemSet:
    """The problems that were read, and an account of the rows that did not become one."""

    problems: list[Problem]
    bad_rows: list[str] = field(default_factory=list)
    """Place and reason of each row that is no problem."""
    filtered: int = 0
    """Rows that the task left out on purpose."""
