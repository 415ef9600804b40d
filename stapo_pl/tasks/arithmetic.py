"""Generated arithmetic in several steps. It is the task of a first run and needs no download."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, ProblemSet
from stapo_pl.rewards import Exact, Reward
from stapo_pl.tasks.base import Task

# One expression in eight is for validation. A hash of the expression decides, so that no expression
# is in both sets.
_VALIDATION_SHARE = 8


@dataclass(frozen=True)
class Expression:
    """A chain of additions and subtractions. All values on the way, from the left, are in 0..99.

    Example:
        >>> Expression((47, 38, -26)).question, Expression((47, 38, -26)).answer
        ('Compute 47+38-26.', 59)
    """

    terms: tuple[int, ...]

    @property
    def question(self) -> str:
        return f"Compute {self.terms[0]}{''.join(f'{term:+d}' for term in self.terms[1:])}."

    @property
    def answer(self) -> int:
        return sum(self.terms)

    @property
    def is_validation(self) -> bool:
        return (
            hashlib.blake2b(self.question.encode(), digest_size=1).digest()[0] % _VALIDATION_SHARE
            == 0
        )


def expressions(rng: random.Random, steps: int) -> Iterator[Expression]:
    """An endless stream of expressions; additions and subtractions are equally likely."""
    while True:
        terms = [rng.randint(10, 89)]
        for _ in range(steps):
            total = sum(terms)
            can_add, can_subtract = total <= 89, total >= 20
            add = rng.random() < 0.5 if can_add and can_subtract else can_add
            terms.append(rng.randint(10, 99 - total) if add else -rng.randint(10, total - 10))
        yield Expression(tuple(terms))


class Arithmetic(Task):
    r"""`Compute 47+38-26.`, answered by a worked solution that ends in `\boxed{59}`.

    Args:
        steps: number of additions and subtractions in an expression.
        train_size: number of training problems.
        validation_size: number of validation problems; no expression is in both sets.
        seed: seed of the generator. The shipped policy was made for the sets of the default.
        reward: judges the responses. None means an exact match.
    """

    name = "arithmetic"

    def __init__(
        self,
        steps: int = 3,
        train_size: int = 16384,
        validation_size: int = 256,
        seed: int = 0,
        reward: Reward | None = None,
    ) -> None:
        for name, value in (
            ("steps", steps),
            ("train_size", train_size),
            ("validation_size", validation_size),
        ):
            if value < 1:
                raise ConfigError(f"task.{name} must be at least 1, got {value}")
        self.steps, self.seed = steps, seed
        self.train_size, self.validation_size = train_size, validation_size
        self.reward = reward or Exact()

    def train_problems(self) -> ProblemSet:
        return self._problems(self.train_size, validation=False)

    def validation_problems(self) -> ProblemSet:
        return self._problems(self.validation_size, validation=True)

    def _problems(self, size: int, validation: bool) -> ProblemSet:
        stream = expressions(random.Random(self.seed), self.steps)
        chosen = islice((e for e in stream if e.is_validation is validation), size)
        return ProblemSet(
            [
                Problem([{"role": "user", "content": e.question}], str(e.answer), self.name)
                for e in chosen
            ]
        )
