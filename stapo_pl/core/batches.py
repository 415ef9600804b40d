"""The carriers of training: response tokens, and the batches that a rollout is cut into.

A rollout is cut into mini-batches, one for each optimizer step, and a mini-batch is cut into
micro-batches, one for each forward and backward pass. Links lead from a micro-batch up to its
rollout: `micro.mini_batch.rollout`. Shape suffixes are explained in `types.py`.
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
    """What a forward pass says of each response token, by softmax(logits / rollout temperature)."""

    logprobs_T: Tensor
    """Log-probability of the token."""
    entropy_T: Tensor
    """Entropy of the distribution that it was drawn from, in nats."""
    collision_T: Tensor
    """Collision probability: the sum of squared probabilities of that distribution."""

    def detach(self) -> TokenStatistics:
        """The same values without gradient."""
        return TokenStatistics(*(getattr(self, f.name).detach() for f in fields(self)))

    @staticmethod
    def cat(parts: Sequence[TokenStatistics]) -> TokenStatistics:
        return TokenStatistics(
            *(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(TokenStatistics))
        )


@dataclass
class Tokens:
    """What an objective knows of each response token besides the current policy's statistics."""

    token_ids_T: Tensor
    sequence_T: Tensor
    """Number of the sequence in its mini-batch (on this rank); micro-batches hold whole ones."""
    advantages_T: Tensor
    """Advantage of the token: its sequence's, unless the objective makes one for each token."""
    sampler_logprobs_T: Tensor
    """Log-probabilities as the sampler reported them."""
    rewards_T: Tensor | None = None
    """The shaped reward of the token's sequence."""
    group_T: Tensor | None = None
    """Number of the token's group among the groups of all ranks."""
    old_logprobs_T: Tensor | None = None
    """Log-probabilities under the policy that made the rollout: from the trainer's scoring pass, or
    the sampler's own."""
    reference_logprobs_T: Tensor | None = None
    """Log-probabilities under the reference policy, where something needs them."""
    weights_T: Tensor | None = None
    """Weight of the token's surrogate loss in the mini-batch; 0 where the token is silenced."""
    correction_T: Tensor | None = None
    """What the surrogate loss is multiplied by besides, for the sampler's being slightly another
    policy; without a correction, None."""
    regularizer_weights_T: Tensor | None = None
    """Weight of the token's KL and entropy terms: as if no token had been silenced."""

    def __len__(self) -> int:
        return len(self.token_ids_T)

    def to(self, device: torch.device) -> Tokens:
        """The same columns on a device."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: Any = {k: None if v is None else v.to(device) for k, v in columns.items()}
        return Tokens(**moved)

    def split(self, sizes: Sequence[int]) -> list[Tokens]:
        """Cuts into consecutive runs of the given sizes."""
        columns = {
            f.name: value.split(list(sizes))
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        return [replace(self, **{k: v[i] for k, v in columns.items()}) for i in range(len(sizes))]

    @staticmethod
    def cat(parts: Sequence[Tokens]) -> Tokens:
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Tokens)}
        joined: Any = {k: None if v[0] is None else torch.cat(v) for k, v in columns.items()}
        return Tokens(**joined)


class MicroBatch:
    """One forward and backward pass: whole sequences, and the response tokens in them.

    It is no dataclass and has no method `to`: Lightning walks into what has, and would copy the
    whole rollout that a micro-batch leads to.

    Args:
        input_ids_S: the tokens of all sequences.
        lengths: tokens of each sequence.
        predictor_T: index into [S] of the position whose output predicts the token.
        tokens: the response tokens.
        temperature: of the rollout; all statistics are taken at it.
        mini_batch: the mini-batch that it is a part of; None for one pass alone.
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
        """A copy for one pass, on a device."""
        return MicroBatch(
            self.input_ids_S.to(device),
            self.lengths,
            self.predictor_T.to(device),
            self.tokens.to(device),
            self.temperature,
        )


@dataclass
class MiniBatch:
    """One optimizer step: the micro-batches whose gradients add up to it, on this rank.

    Example: the step of a mini-batch of one response of two tokens.

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
    trajectories: list[Trajectory]
    """In the order of the micro-batches: `tokens.sequence_T` counts them."""
    micro_batches: list[MicroBatch]
    number: int = 0
    """Its place among the mini-batches of the rollout."""
    behavior: TokenStatistics | None = None
    """Statistics of the policy that made the rollout; None if nothing asked for them."""
    step: int = 0
    """Number of its optimizer step within the rollout."""
    is_empty: bool = False
    """Whether no token of it teaches, on any rank: its step is then skipped."""

    def at_step(self, step: int) -> MiniBatch:
        """A copy for one optimizer step, whose weights are its own; scores are shared."""
        copy = replace(self, step=step)
        copy.micro_batches = [
            MicroBatch(m.input_ids_S, m.lengths, m.predictor_T, m.tokens, m.temperature, copy)
            for m in self.micro_batches
        ]
        return copy


@dataclass
class RolloutBatch:
    """A rollout as it is trained on."""

    rollout: Rollout
    version: int
    """The optimizer step that it was sampled at. Its k-th step is `version + k` of the run."""
    mini_batches: list[MiniBatch] = field(default_factory=list)


@dataclass
class ValidationBatch:
    """What a validation found on some prompts, or on none."""

    name: str
    """The task that they are from."""
    values: dict[str, Tensor]
    """Of each metric, its values [prompts]."""
