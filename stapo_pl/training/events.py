"""What happens in a run, for those who want to hear of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from stapo_pl.core.batches import MiniBatch, RolloutBatch, Tokens, TokenStatistics
from stapo_pl.core.types import Rollout


@dataclass
class Phase:
    """A part of the work goes on, or begins with `done` = 0."""

    name: str
    """`rollout`, `grade`, `score`, `update` or `validation`."""
    done: int
    total: int


@dataclass
class RolloutCollected:
    """A rollout was sampled and graded; no policy has seen it yet."""

    rollout: Rollout
    """This rank's share of it."""
    metrics: dict[str, float]
    """Its curves, over all ranks."""


@dataclass
class RolloutScored:
    """The old and reference log-probabilities of a rollout are known, and its token advantages."""

    batch: RolloutBatch


@dataclass
class MiniBatchDone:
    """All passes of a mini-batch are made; its optimizer step comes next.

    Everything is aligned: `tokens.sequence_T` counts `mini_batch.trajectories`, and each entry of
    `statistics` belongs to the token at the same place.
    """

    mini_batch: MiniBatch
    tokens: Tokens
    """All response tokens of this rank, with their advantages, log-probabilities and weights."""
    statistics: TokenStatistics
    """Theirs, under the policy that is being updated; without gradient."""


@dataclass
class StepDone:
    """The gradient of an optimizer step is there and finite; the step is taken next."""

    step: int
    """Number of the step in the run, from 0 on."""
    metrics: dict[str, Tensor]
    """Its curves, over all ranks."""


@dataclass
class RolloutDone:
    """A rollout was trained on to its end. Checkpoints are made after everybody has heard of it."""

    metrics: dict[str, float]
    """All of its curves."""
    skipped_steps: int
    """How many of its optimizer steps were skipped, as no token taught."""


Event = TypeVar("Event")


class Events:
    """Tells everybody who listens for an event. Any number may listen, and their order is free.

    Example:
        >>> events, heard = Events(), []
        >>> events.listen(Phase, lambda phase: heard.append(phase.name))
        >>> events.tell(Phase("score", done=0, total=2))
        >>> heard
        ['score']
    """

    def __init__(self) -> None:
        self._listeners: dict[type, list[Callable]] = defaultdict(list)

    def listen(self, kind: type[Event], listener: Callable[[Event], None]) -> None:
        """From now on `listener` is called with each event of this kind, on every rank."""
        self._listeners[kind].append(listener)

    def tell(self, event: object) -> None:
        """Calls all who listen for events of this kind."""
        for listener in self._listeners[type(event)]:
            listener(event)
