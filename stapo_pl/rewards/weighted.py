"""A sum of rewards."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward


@dataclass
class Term:
    """One of the rewards that are added up."""

    weight: float
    """The reward is multiplied by this weight. A weight below 0 makes it a punishment."""
    reward: Reward


class Weighted(Reward):
    """The weighted sum of rewards, each of which is also a component of the score.

    The first term alone decides whether a response is correct, which answer was found, and why.
    The other terms only change the reward.

    Args:
        terms: the rewards with their weights, by name. A component has the name of its term.

    Raises:
        ConfigError: there are no terms.

    Example:
        >>> from stapo_pl.rewards import Exact, Length
        >>> reward = Weighted({"exact": Term(1, Exact()), "length": Term(0.5, Length(10, 20))})
        >>> reward.score(Response(r"\\boxed{4}", tokens=15), Problem([], "4")).reward
        0.75
    """

    def __init__(self, terms: dict[str, Term]) -> None:
        if not terms:
            raise ConfigError("terms is empty: expected at least one name with weight and reward")
        self.terms = terms
        self.bounded = all(term.reward.bounded for term in terms.values())
        self.extracts = next(iter(terms.values())).reward.extracts
        self.takes_any_answer = all(term.reward.takes_any_answer for term in terms.values())
        self.worst, self.best = (
            sum(term.weight * parts[name] for name, term in terms.items())
            for parts in (self.worst_components, self._components(best=True))
        )

    @property
    def worst_components(self) -> dict[str, float]:
        return self._components(best=False)

    def _components(self, best: bool) -> dict[str, float]:
        """The components that make the sum as large (best) or as small as it can be.

        A punished term makes the sum small where it is large itself.
        """
        return {
            name: term.reward.best if best == (term.weight > 0) else term.reward.worst
            for name, term in self.terms.items()
        }

    def prepare(self) -> None:
        for term in self.terms.values():
            term.reward.prepare()

    def can_match(self, problem: Problem) -> bool:
        return next(iter(self.terms.values())).reward.can_match(problem)

    def score(self, response: Response, problem: Problem) -> Score:
        scores = {name: term.reward.score(response, problem) for name, term in self.terms.items()}
        first = next(iter(scores.values()))
        return Score(
            reward=sum(term.weight * scores[name].reward for name, term in self.terms.items()),
            correct=first.correct,
            extracted=first.extracted,
            reason=first.reason,
            components={name: score.reward for name, score in scores.items()},
        )
