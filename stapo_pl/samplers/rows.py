"""The sequences that are decoded together, one row for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from stapo_pl.core.types import Completion
from stapo_pl.samplers.drawing import Draw


@dataclass
class Rows:
    """The state of B sequences that may get N new tokens each.

    A sequence that has ended stays for a while. What it is given then goes to places that nobody
    reads, which is why N + 1 columns are kept.
    """

    request_B: Tensor
    """The number of the request that the sequence answers."""
    length_B: Tensor
    """The number of tokens of the sequence that are in the cache."""
    uniforms_BN: Tensor
    """A random number for each new token."""
    tokens_BN: Tensor
    """The new tokens."""
    logprobs_BN: Tensor
    """The log-probabilities of the new tokens."""
    count_B: Tensor
    """The number of new tokens."""
    running_B: Tensor
    """Whether the sequence has not ended."""

    @classmethod
    def of(
        cls, requests: Sequence[int], seeds: Sequence[int], length_B: Tensor, draw: Draw
    ) -> Rows:
        """Rows for requests with these numbers and seeds. They have no new token yet."""
        device = length_B.device
        rows, columns = len(requests), draw.limit + 1
        uniforms_BN = torch.zeros(rows, columns, dtype=torch.float64)
        for row, seed in enumerate(seeds):
            uniforms_BN[row, : draw.limit] = draw.uniforms(seed)
        return cls(
            request_B=torch.tensor(requests, dtype=torch.long, device=device),
            length_B=length_B,
            uniforms_BN=uniforms_BN.to(device),
            tokens_BN=torch.zeros(rows, columns, dtype=torch.long, device=device),
            logprobs_BN=torch.zeros(rows, columns, device=device),
            count_B=torch.zeros(rows, dtype=torch.long, device=device),
            running_B=torch.ones(rows, dtype=torch.bool, device=device),
        )

    def __len__(self) -> int:
        return len(self.request_B)

    def __getitem__(self, rows_B: Tensor) -> Rows:
        return Rows(*(getattr(self, field.name)[rows_B] for field in fields(self)))

    @classmethod
    def cat(cls, parts: Sequence[Rows]) -> Rows:
        return cls(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(cls)))

    @property
    def last_B1(self) -> Tensor:
        """The newest token of each sequence."""
        return self.tokens_BN.gather(1, self.count_B[:, None] - 1)

    def extend(self, logits_BV: Tensor, draw: Draw, end_tokens: Tensor) -> None:
        """Draws the next token of each sequence, and ends those that are complete."""
        place_B1 = self.count_B[:, None]
        token_B, logp_B = draw(logits_BV, self.uniforms_BN.gather(1, place_B1)[:, 0])
        self.tokens_BN.scatter_(1, place_B1, token_B[:, None])
        self.logprobs_BN.scatter_(1, place_B1, logp_B[:, None])
        self.count_B += self.running_B
        self.running_B &= ~torch.isin(token_B, end_tokens) & (self.count_B < draw.limit)

    def ended(self, end_token_ids: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """The numbers and completions of the requests whose sequences have ended."""
        rows = self[~self.running_B]
        columns = rows.request_B, rows.count_B, rows.tokens_BN, rows.logprobs_BN
        for number, count, tokens, logprobs in zip(*(c.tolist() for c in columns), strict=True):
            is_cut = tokens[count - 1] not in end_token_ids
            yield number, Completion(tokens[:count], logprobs[:count], truncated=is_cut)
