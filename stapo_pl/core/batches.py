"""The carriers of training: response tokens, and the batches that a rollout is cut into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass
class TokenStatistics:
    """What a forward pass says of each response token, by softmax(logits / rollout temperature)."""

    logprobs_T: Tensor
    """Log-probability of the token."""
    entropy_T: Tensor
    """Entropy of the distribution that it was drawn from, in nats."""
    collision_T: Tensor
    """Collision probability: the sum of squared probabilities of that distribution."""

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
    sampler_logprobs_T: Tensor
    """Log-probabilities as the sampler reported them."""
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
        return Tokens(**{k: None if v[0] is None else torch.cat(v) for k, v in columns.items()})


@dataclass
class MicroBatch:
    """One forward and backward pass: whole sequences and their response tokens."""

    input_ids_S: Tensor
    lengths: list[int]
    """Tokens of each sequence."""
    predictor_T: Tensor
    """Index into [S] of the position whose output predicts the token."""
    tokens: Tokens
    temperature: float
    """Of the rollout; all statistics are taken at it."""
    version: int = 0
    """The optimizer step that the rollout was sampled at."""
    mini_batch: int = 0
    """Number within its rollout. At its update, global_step - version == mini_batch."""
    empty: bool = False
    """True if no token of the mini-batch teaches, on any rank: its step is skipped."""


@dataclass
class ValidationBatch:
    """What a validation found on some prompts, or on none."""

    name: str
    """The task that they are from."""
    values: dict[str, Tensor]
    """Of each metric, its values [prompts]."""
