"""What a reward is: it judges one response to one problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from stapo_pl.problems import Problem

Outcome = Literal["judged", "timeout", "error"]


@dataclass
class Response:
    """What the policy wrote."""

    text: str
    """Decoded, without special tokens."""
    tokens: int = 0
    """Its length, end-of-sequence token included."""
    truncated: bool = False
    """Whether the length limit ended it."""


@dataclass
class Score:
    """The verdict on one response."""

    reward: float
    """The scalar that advantages are made of; decides which groups are mixed."""
    correct: bool
    """Whether the answer is right, whatever the reward: what accuracies count."""
    extracted: str | None
    """The answer that was found in the response, None if there was none."""
    reason: str = ""
    """Why, in a few words."""
    components: dict[str, float] = field(default_factory=dict)
    """The parts that a sum of rewards is made of, before their weights."""
    outcome: Outcome = "judged"
    """Whether it was judged; or took too long, or killed the process that judged it."""


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
