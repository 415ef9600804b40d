"""Continuous batching: finished sequences leave the batch, and waiting requests take their places.

The prompts of a batch are padded on the left, so all sequences end at the same column of the cache.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from stapo_pl.core.types import Completion, Decoding, Request
from stapo_pl.samplers.drawing import Draw
from stapo_pl.samplers.rows import Rows
from stapo_pl.samplers.slots import SlotCache

SPARE = 4
"""The cache has room for the longest sequence and 1/SPARE of it, so that it is seldom moved."""
# The batch changes when one of so many sequences has ended. Until then they are computed for
# nothing, which costs less than a change for each of them.
_ENDED = 8


class Generation:
    """Answers requests.

    Args:
        model: the model to sample from. It keeps keys and values, and nothing else, of all tokens.
        end_token_ids: the tokens that end a response.
        decoding: the distribution that tokens are drawn from.
        batch_size: the largest number of sequences that are decoded at the same time.
        requests: what to answer.
    """

    cache: SlotCache

    def __init__(
        self,
        model: PreTrainedModel,
        end_token_ids: Sequence[int],
        decoding: Decoding,
        batch_size: int,
        requests: Sequence[Request],
    ) -> None:
        self.model, self.end_token_ids = model, end_token_ids
        self.draw, self.batch_size, self.requests = Draw(decoding), batch_size, requests
        self.device = model.device
        self.end_tokens = torch.tensor(end_token_ids, device=self.device)
        self.accepted = inspect.signature(model.forward).parameters
        # Prompts of similar length come together, so that little padding is computed.
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        self.waiting = deque(order)
        self.longest = max(map(self._prompt_length, order), default=0) + self.draw.limit
        self.rows = Rows.of([], [], self.draw, self.device)
        self.running = 0

    def run(self, progress: Callable[[int, int], None]) -> list[Completion]:
        """Returns one completion for each request, in the same order."""
        completions: dict[int, Completion] = {}
        while len(completions) < len(self.requests):
            if _ENDED * self.running > (_ENDED - 1) * len(self.rows):
                self._step()
            else:
                completions.update(self.rows.ended(self.end_token_ids))
                progress(len(completions), len(self.requests))
                self._refill() if self.waiting else self._shrink()
            self._look()
        return [completions[i] for i in range(len(self.requests))]

    def _prompt_length(self, request: int) -> int:
        return len(self.requests[request].prompt_ids)

    def _look(self) -> None:
        """Notes how many sequences go on, and which columns of the cache they see."""
        starts_B = self.rows.start_B[self.rows.running_B]
        self.running = len(starts_B)
        if self.running:
            first, last = torch.stack(starts_B.aminmax()).tolist()
            self.cache.span.first, self.is_padded = first, last > first

    def _step(self) -> None:
        """Computes one more token of each sequence."""
        if self.cache.is_full:
            self._move(self.cache.get_seq_length())
        rows, span = self.rows, self.cache.span
        columns = torch.arange(span.first, span.end + 1, device=self.device)
        # What has ended is computed too, but maybe at a place that the model does not know.
        places_B = (span.end - rows.start_B).clamp(max=self.longest - 1)
        mask_BL = columns >= rows.start_B[:, None] if self.is_padded else None
        logits_BV = self._logits(rows.last_B1, places_B[:, None], mask_BL, self.cache)
        span.end += 1
        rows.extend(logits_BV, self.draw, self.end_tokens)

    def _logits(
        self, ids_BL: Tensor, places_BL: Tensor, mask_BL: Tensor | None, cache: Cache
    ) -> Tensor:
        """The logits [B, V] of the token after the last one."""
        optional = {"position_ids": places_BL, "logits_to_keep": 1}
        known = {name: value for name, value in optional.items() if name in self.accepted}
        return self.model(
            input_ids=ids_BL, attention_mask=mask_BL, past_key_values=cache, use_cache=True, **known
        ).logits[:, -1]

    def _refill(self) -> None:
        """Gives the free places to waiting requests."""
        count = min(self.batch_size - self.running, len(self.waiting))
        chosen = [self.waiting.popleft() for _ in range(count)]
        new = Rows.of(chosen, [self.requests[i].seed for i in chosen], self.draw, self.device)
        # The requests of a group have the same prompt, which is computed once.
        prompts = [tuple(self.requests[i].prompt_ids) for i in chosen]
        different = list(dict.fromkeys(prompts))
        number = {prompt: i for i, prompt in enumerate(different)}
        source_B = torch.tensor([number[prompt] for prompt in prompts], device=self.device)
        logits_PV, cache, lengths_P = self._read(different)
        new.extend(logits_PV[source_B], self.draw, self.end_tokens)
        longest = cache.get_seq_length()
        if not len(self.rows):
            self.cache = SlotCache(cache, count, self.longest + self.longest // SPARE)
            slots_B = torch.arange(count, device=self.device)
            self.rows = new[slots_B]
        else:
            slots_B = (~self.rows.running_B).nonzero()[:count, 0]
        if self.cache.span.end < longest:
            self._move(longest)
        self.cache.put(slots_B, cache, source_B)
        new.start_B = self.cache.span.end - lengths_P[source_B]
        self.rows[slots_B] = new

    def _read(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Cache, Tensor]:
        """Passes prompts through the model.

        Returns:
            The logits [P, V] of the first new token, the keys and values, and the lengths [P].
        """
        lengths_P = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        longest = max(map(len, prompts))
        # Any token can be padding, because it is masked.
        padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        places_PL = torch.arange(longest, device=self.device) - (longest - lengths_P)[:, None]
        mask_PL = places_PL >= 0
        cache = Cache(layer_class_to_replicate=DynamicLayer)
        logits_PV = self._logits(
            torch.tensor(padded, device=self.device),
            places_PL.clamp(min=0),
            None if mask_PL.all() else mask_PL,
            cache,
        )
        return logits_PV, cache, lengths_P

    def _shrink(self) -> None:
        """Drops sequences that have ended."""
        kept_B = self.rows.running_B.nonzero()[:, 0]
        self.rows = self.rows[kept_B]
        self.cache.keep(kept_B)

    def _move(self, end: int) -> None:
        """Moves the columns of the cache, so that they end at `end`."""
        self.rows.start_B += end - self.cache.span.end
        self.cache.move(end)
