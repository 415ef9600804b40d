"""The objects of training: response tokens, and the batches that a rollout is cut into.

A rollout is cut into mini-batches. A mini-batch is the data of one optimizer step. A mini-batch is
cut into micro-batches, and a micro-batch is the data of one forward and backward pass. A
micro-batch knows its mini-batch, and a mini-batch knows its rollout: `micro.mini_batch.rollout`.
The shape suffixes of names, such as `_T`, are explained in `types.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from stapo_pl.core.types import Rollout, Trajectory


@dataclass
class TokenStatistics:
    """What a forward pass of a policy says about each response token.

    The policy's distribution of the next token is softmax(logits / temperature of the rollout).
    """

    logprobs_T: Tensor
    """The log-probability of the token under this distribution."""
    entropy_T: Tensor
    """The entropy of this distribution, in nats."""
    collision_T: Tensor
    """The collision probability of this distribution: the sum of its squared probabilities."""

    def detach(self) -> TokenStatistics:
        """Returns the same values without gradient."""
        return TokenStatistics(*(getattr(self, f.name).detach() for f in fields(self)))

    def directions_T(self, temperature: float) -> Tensor:
        """Returns (1 - 2p + c) / T^2, the squared norm of the gradient of log p with respect to the
        logits (STAPO, 2602.15620)."""
        return (1 - 2 * self.logprobs_T.exp() + self.collision_T).clamp(min=0) / temperature**2

    @staticmethod
    def of_certain(count: int, device: torch.device) -> TokenStatistics:
        """Returns statistics of tokens that had probability 1. They stand for unknown ones."""
        zeros = torch.zeros(count, device=device)
        return TokenStatistics(zeros, zeros, torch.ones_like(zeros))

    def split(self, sizes: Sequence[int]) -> list[TokenStatistics]:
        """Cuts the rows into consecutive pieces of the given sizes."""
        columns = [getattr(self, f.name).split(list(sizes)) for f in fields(self)]
        return [TokenStatistics(*pieces) for pieces in zip(*columns, strict=True)]

    @staticmethod
    def cat(parts: Sequence[TokenStatistics]) -> TokenStatistics:
        """Joins the statistics of several passes, in order."""
        return TokenStatistics(
            *(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(TokenStatistics))
        )


@dataclass
class Tokens:
    """The response tokens of some sequences, as a table: one row a token, one column a field.

    An objective computes the loss from these columns and from the statistics of the policy that is
    being updated. A column is None until it has been filled in, or if nothing needs it.

    Example: sequence 0 has two response tokens, and sequence 1 has one.

        >>> tokens = Tokens(
        ...     token_ids_T=torch.tensor([7, 8, 9]),
        ...     sequence_T=torch.tensor([0, 0, 1]),
        ...     advantages_T=torch.tensor([1.0, 1.0, -1.0]),
        ...     sampler_logprobs_T=torch.tensor([-0.5, -0.1, -2.0]),
        ... )
        >>> first, second = tokens.split([2, 1])
        >>> len(first), second.advantages_T.tolist()
        (2, [-1.0])
        >>> Tokens.cat([first, second]).token_ids_T.tolist()
        [7, 8, 9]
    """

    token_ids_T: Tensor
    """The tokens that the policy wrote, as numbers of the vocabulary."""
    sequence_T: Tensor
    """The number of the token's sequence in its mini-batch on this rank. A sequence is never split
    between micro-batches."""
    advantages_T: Tensor
    """The advantage of the token. It is the advantage of the whole response, unless the objective
    makes one for each token."""
    sampler_logprobs_T: Tensor
    """The log-probability of the token as the sampler reported it."""
    curve_weights_T: Tensor | None = None
    """The number of tokens of the mini-batch that the token stands for in curves."""
    rewards_T: Tensor | None = None
    """The shaped reward of the token's sequence."""
    group_T: Tensor | None = None
    """The number of the token's group among the groups of all ranks."""
    old_logprobs_T: Tensor | None = None
    """The log-probability under the policy that made the rollout. It comes from the trainer's
    scoring pass, or from the sampler if there is no such pass."""
    reference_logprobs_T: Tensor | None = None
    """The log-probability under the reference policy."""
    teacher_logprobs_T: Tensor | None = None
    """The log-probability under a teacher."""
    random_T: Tensor | None = None
    """A random whole number of the token for this optimizer step, from which `draws.draw` draws."""
    penalized_T: Tensor | None = None
    """Whether an objective penalizes this token, which it decides for the whole mini-batch."""
    weights_T: Tensor | None = None
    """The weight of the token's surrogate loss in the mini-batch. It is 0 for a silenced token."""
    correction_T: Tensor | None = None
    """A second factor of the surrogate loss. It corrects for the difference between the
    probabilities of the sampler and those of the trainer."""
    regularizer_weights_T: Tensor | None = None
    """The weight of the token's KL and entropy terms. Silenced tokens have such a weight too."""

    def __len__(self) -> int:
        return len(self.token_ids_T)

    @property
    def surrogate_weights_T(self) -> Tensor:
        """The factor of the surrogate loss: the weight, times the correction if there is one."""
        assert self.weights_T is not None, "they are decided before the loss"
        return self.weights_T if self.correction_T is None else self.weights_T * self.correction_T

    def to(self, device: torch.device) -> Tokens:
        """Returns the same columns on a device."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: Any = {k: None if v is None else v.to(device) for k, v in columns.items()}
        return Tokens(**moved)

    def split(self, sizes: Sequence[int]) -> list[Tokens]:
        """Cuts the rows into consecutive pieces of the given sizes."""
        columns = {
            f.name: value.split(list(sizes))
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        return [replace(self, **{k: v[i] for k, v in columns.items()}) for i in range(len(sizes))]

    @staticmethod
    def cat(parts: Sequence[Tokens]) -> Tokens:
        """Joins tables, in order. A column must be filled in in all of them or in none."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Tokens)}
        joined: Any = {k: None if v[0] is None else torch.cat(v) for k, v in columns.items()}
        return Tokens(**joined)


class MicroBatch:
    """The data of one forward and backward pass: whole sequences, and their response tokens.

    This is not a dataclass, and it has no method `to`, on purpose. Lightning moves dataclasses and
    objects with `to` to the device, and it would copy the whole rollout with them.

    Args:
        input_ids_S: the tokens of all sequences, prompts and responses, laid end to end.
        lengths: the number of tokens of each sequence.
        predictor_T: for each response token, the index into [S] of the position whose output
            predicts it.
        tokens: the response tokens.
        temperature: the temperature that the rollout was sampled at. All statistics use it.
        mini_batch: the mini-batch that this micro-batch is a part of. None if the micro-batch is
            used for a single pass outside of training.
    """

    def __init__(
        self,
        input_ids_S: Tensor,
        lengths: list[int],
        predictor_T: Tensor,
        tokens: Tokens,
        temperature: float,
        mini_batch: MiniBatch | None = None,
    ) -> None:
        self.input_ids_S, self.lengths = input_ids_S, lengths
        self.predictor_T, self.tokens = predictor_T, tokens
        self.temperature, self.mini_batch = temperature, mini_batch

    def on(self, device: torch.device) -> MicroBatch:
        """Returns a copy on a device. It has no link to the mini-batch."""
        return MicroBatch(
            self.input_ids_S.to(device),
            self.lengths,
            self.predictor_T.to(device),
            self.tokens.to(device),
            self.temperature,
        )


@dataclass
class MiniBatch:
    """The data of one optimizer step on this rank.

    The gradients of the micro-batches are added, and then the optimizer makes one step.

    Example: a mini-batch has one response of two tokens. The rollout was sampled at step 40 of the
    run, so the second step of the rollout is step 41 of the run.

        >>> one, ids = torch.ones(2), torch.tensor([7, 8])
        >>> tokens = Tokens(ids, torch.zeros(2, dtype=torch.long), one, -one)
        >>> micro = MicroBatch(torch.tensor([3, 7, 8]), [3], torch.tensor([0, 1]), tokens, 1.0)
        >>> rollout = RolloutBatch(Rollout(cursor=1), version=40)
        >>> rollout.mini_batches.append(MiniBatch(rollout, [], [micro]))
        >>> mini_batch = rollout.mini_batches[0].at_step(1)
        >>> mini_batch.micro_batches[0].mini_batch.rollout.version + mini_batch.step
        41
    """

    rollout: RolloutBatch = field(repr=False)
    """The rollout that this mini-batch was cut from."""
    trajectories: list[Trajectory]
    """The trajectories, in the order of the micro-batches. `tokens.sequence_T` is an index into
    this list."""
    micro_batches: list[MicroBatch]
    """The parts of the mini-batch, one for each forward and backward pass."""
    left_out: list[MicroBatch] = field(default_factory=list)
    """Sequences that teach nothing, so they have no pass with gradient. Their tokens are counted
    after those of the micro-batches."""
    left_out_trajectories: list[Trajectory] = field(default_factory=list)
    """The trajectories of these sequences. Their numbers go on from those of `trajectories`."""
    number: int = 0
    """The place of this mini-batch among the mini-batches of the rollout, from 0."""
    behavior: TokenStatistics | None = None
    """The statistics of all tokens under the policy that made the rollout. None if nothing needs
    them."""
    selected_by: TokenStatistics | None = None
    """The statistics of all tokens that selections of this step looked at: of the policy just
    before the step if one asks for them, otherwise the same as `behavior`. None if there is no
    selection."""
    step: int = 0
    """The number of this optimizer step within the rollout, from 0. Several epochs visit the same
    mini-batch at different steps."""
    is_empty: bool = False
    """Whether no token on any rank teaches. The optimizer step is then skipped."""

    def at_step(self, step: int) -> MiniBatch:
        """Returns a copy for one optimizer step.

        The copy shares the trajectories and the statistics with the original. Its micro-batches are
        new objects, so the weights of one step do not change those of another.
        """
        copy = replace(self, step=step)
        copy.micro_batches, copy.left_out = (
            [
                MicroBatch(m.input_ids_S, m.lengths, m.predictor_T, m.tokens, m.temperature, copy)
                for m in micros
            ]
            for micros in (self.micro_batches, self.left_out)
        )
        return copy


@dataclass
class RolloutBatch:
    """A rollout that has been cut into mini-batches for training."""

    rollout: Rollout
    """The trajectories as they were collected."""
    version: int
    """The number of the optimizer step after which the rollout was sampled. Step k of the rollout
    is step `version + k` of the run."""
    mini_batches: list[MiniBatch] = field(default_factory=list)
    """The mini-batches of one epoch. Every epoch visits all of them."""


@dataclass
class ValidationBatch:
    """The results of a validation on some prompts of one benchmark. There may be no prompt."""

    name: str
    """The name of the benchmark."""
    values: dict[str, Tensor]
    """The values of each metric, [prompts], by the name of the metric."""
