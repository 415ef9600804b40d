"""What a reward is: it judges one response to one problem."""

from __future__ import annotations

from abc import ABC, abstractmethod

from stapo_pl.core.types import Problem, Response, Score


class Reward(ABC):
    """Judges responses. Pure: what it says depends on response and problem alone.

    Rewards are sent to other processes, so they must be picklable: settings, and no more.
    """

    bounded: bool = False
    """Whether it needs little time and memory for any text, so that no process has to be at risk
    for it: it then runs where it is called."""
    extracts: bool = True
    """Whether it looks for an answer in the response: else `Score.extracted` means nothing."""
    takes_any_answer: bool = False
    """Whether the answers of rows may be lists, objects or truth values, as JSON text."""
    worst: float = 0.0
    """The reward of a response that could not be judged."""
    best: float = 1.0
    """The highest one."""

    @property
    def worst_components(self) -> dict[str, float]:
        """Of the parts that it is a sum of, as in `Score`, when a response could not be judged;
        nothing if it is no sum."""
        return {}

    def prepare(self) -> None:  # noqa: B027
        """Slow starts, such as heavy imports; called once in each process that is to judge."""

    @abstractmethod
    def score(self, response: Response, problem: Problem) -> Score:
        """Judges one response. It may be anything: an exception here ends the run."""

    def can_match(self, problem: Problem) -> bool:
        """Whether some response can be right by this problem's answer: asked for every problem at
        the start of a run, so it has to be quick. True where the answer plays no part."""
        return True
