"""The carriers that pass between the steps of a run, and the legend of shape suffixes.

A tensor's name ends in its shape:

    P  prompts of a rollout            G  responses of a prompt (its group)
    B  sequences (prompt + response)   S  all tokens of B sequences, laid end to end
    L  padded length of a sequence     V  vocabulary
    D  hidden size
    T  response tokens of B sequences, laid end to end: no prompt, no padding, and no token that
       the policy did not write

Losses, selections and metrics see only T and the sequence that each token belongs to, so how
sequences were padded, packed, ordered or cut into micro-batches cannot change them.

Carriers are plain dataclasses, not frozen: Lightning's device transfer rebuilds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from stapo_pl.problems import Problem
from stapo_pl.rewards.base import Score


@dataclass
class Prompt:
    """A problem, ready for a sampler."""

    token_ids: list[int]
    """The rendered prompt."""
    problem: Problem
    """Where it came from; the task judges responses against it."""
    position: int
    """Number in the stream of all prompts of the run; every random choice is keyed by it."""


@dataclass
class Request:
    """One response to sample."""

    prompt_ids: list[int]
    seed: int
    """All of the response's randomness; equal requests to equal weights give equal responses."""


@dataclass
class Decoding:
    """The distribution that responses are drawn from."""

    max_new_tokens: int
    """Longest response, its end token included."""
    temperature: float = 1.0
    """Logits are divided by it; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus: the most likely tokens that together have at least this probability. 1 keeps all."""
    top_k: int = 0
    """Only the k most likely tokens. 0 keeps all."""

    @property
    def is_cut(self) -> bool:
        """Whether some tokens cannot be drawn, so that it is not the policy's distribution."""
        return self.top_p < 1 or self.top_k > 0


@dataclass
class Completion:
    """What a sampler gives back for a request."""

    token_ids: list[int]
    """The response, with its end token if it has one."""
    logprobs: list[float]
    """Log-probabilities under the distribution drawn from (greedy: at temperature 1)."""
    truncated: bool
    """True if the length limit ended it, not an end token."""


@dataclass
class Trajectory:
    """One scored response: what a rollout consists of."""

    prompt: Prompt
    completion: Completion
    text: str
    """The response as the reward saw it: decoded, without its end token."""
    reward: float
    """The shaped reward, from which advantages are made: the score's, less a punishment."""
    score: Score
    """The verdict that it was shaped from."""
    response_mask: list[bool]
    """True where a token teaches: the policy wrote it, and its response is not filtered out."""
    advantages: Tensor
    """[number of response tokens], gaps included."""

    @property
    def correct(self) -> bool:
        """Whether the answer is right, whatever the reward was shaped to."""
        return self.score.correct

    def __len__(self) -> int:
        """Tokens of prompt and response."""
        return len(self.prompt.token_ids) + len(self.completion.token_ids)


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
