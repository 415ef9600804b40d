"""What a reward is: it judges one response to one problem, and returns a score."""

from __future__ import annotations

from abc import ABC, abstractmethod

from stapo_pl.core.types import Problem, Response, Score


class Reward(ABC):
    """Judges responses. The score must depend on the response and the problem alone.

    Rewards are sent to other processes. So they must be picklable, and should hold settings only.
    """

    bounded: bool = False
    """Whether it needs little time and memory for any text. If so, it runs in the process that
    calls it; otherwise it runs in a worker process that can be killed."""
    extracts: bool = True
    """Whether it looks for an answer in the response. If not, `Score.extracted` means nothing."""
    takes_any_answer: bool = False
    """Whether the answers of problems may be lists, objects or truth values, as JSON text."""
    worst: float = 0.0
    """The reward of a response that could not be judged."""
    best: float = 1.0
    """The highest reward."""

    @property
    def worst_components(self) -> dict[str, float]:
        """The components of the score of a response that could not be judged.

        Empty if the reward is not a sum of components.
        """
        return {}

    def prepare(self) -> None:  # noqa: B027
        """Does slow work, such as heavy imports. It is called once in each process that judges."""

    @abstractmethod
    def score(self, response: Response, problem: Problem) -> Score:
        """Judges one response, whose text may be anything. An exception here ends the run.

        Responses come in the order in which they end, and several processes may judge them. So the
        score must depend on nothing but the two arguments.
        """

    def can_match(self, problem: Problem) -> bool:
        """Whether some response to this problem can be correct.

        True if the reward does not use the problem's answer. This is asked for every problem at
        the start of a run, so it has to be quick.
        """
        return True
