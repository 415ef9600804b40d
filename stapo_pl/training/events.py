"""The events of a run. Callbacks listen for them to hear what happens."""

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
    """A phase of the work begins (`done` is 0), or it has made progress."""

    name: str
    """The name of the phase: `rollout`, `grade`, `score`, `update` or `validation`."""
    done: int
    """The number of pieces of work that are done."""
    total: int
    """The number of pieces of work in this phase."""


@dataclass
class RolloutCollected:
    """A rollout was sampled and graded. No pass of the policy has been made on it yet."""

    rollout: Rollout
    """The groups of this rank."""
    metrics: dict[str, float]
    """The curves of the rollout, over all ranks."""


@dataclass
class RolloutScored:
    """Old and reference log-probabilities and token advantages of a rollout were filled in."""

    batch: RolloutBatch
    """The rollout with its mini-batches."""


@dataclass
class MiniBatchDone:
    """All forward passes of a mini-batch were made. Its optimizer step comes next.

    The fields are aligned: `tokens.sequence_T` is an index into `mini_batch.trajectories`, and each
    entry of `statistics` belongs to the token at the same index.
    """

    mini_batch: MiniBatch
    """The mini-batch, with its trajectories."""
    tokens: Tokens
    """All response tokens of this rank that had a pass, with their advantages, log-probabilities
    and weights. Those without a pass are in `mini_batch.left_out`."""
    statistics: TokenStatistics
    """The statistics of these tokens under the policy that is being updated, without gradient."""


@dataclass
class StepDone:
    """The gradient of an optimizer step was computed and is finite. The step is made next."""

    step: int
    """The number of the step in the run, from 0."""
    metrics: dict[str, Tensor]
    """The curves of the step, over all ranks."""


@dataclass
class RolloutDone:
    """The updates of a rollout are done. Checkpoints are written after this event."""

    metrics: dict[str, float]
    """The curves of the rollout that the module logs. Callbacks may log others."""
    skipped_steps: int
    """The number of its optimizer steps that were skipped because no token taught."""


Event = TypeVar("Event")


class Events:
    """Passes each event to all who listen for it. Any number may listen, in any order.

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
        """Makes `listener` be called with each later event of this kind, on every rank."""
        self._listeners[kind].append(listener)

    def tell(self, event: object) -> None:
        """Calls all listeners for events of this kind."""
        for listener in self._listeners[type(event)]:
            listener(event)
