"""Continuous batching: finished sequences leave the batch, and waiting requests take their places.

The prompts of a batch are padded on the left, so all sequences end at the same column of the cache.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from stapo_pl.core.types import Completion, Decoding, Ended, Request
from stapo_pl.samplers.drawing import Draw
from stapo_pl.samplers.roomy_cache import Part, RoomyCache, joined
from stapo_pl.samplers.rows import Rows

# The batch changes when this share of its sequences has ended. Until then they are computed for
# nothing, which costs less than a change for each of them.
_ENDED_SHARE = 1 / 8
# The most tokens of prompts in one pass.
_PASS_TOKENS = 2**14


def room_for(longest: int) -> int:
    """The number of columns for tokens to come, in a cache whose longest sequence is so long.

    A cache with much room is seldom copied, but more of it is computed for nothing.
    """
    return 16 + longest // 16


class Generation:
    """Answers requests.

    Args:
        model: the model to sample from, one that `turns.keeps_only_tokens` knows.
        end_token_ids: the tokens that end a response.
        decoding: the distribution that tokens are drawn from.
        batch_size: the largest number of sequences that are decoded at the same time.
        requests: what to answer.
    """

    cache: RoomyCache

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
        longest_prompt = max((len(request.prompt_ids) for request in requests), default=0)
        # The last new token of the longest sequence is drawn, and never read.
        self.last_place = longest_prompt + self.draw.limit - 2
        nothing_B = torch.zeros(0, dtype=torch.long, device=self.device)
        self.rows = Rows.of([], [], nothing_B, self.draw)

    def run(self, tell: Ended) -> list[Completion]:
        """Returns one completion for each request, in the same order.

        Args:
            tell: it is called with the completions that leave the batch.
        """
        completions: dict[int, Completion] = {}
        self._change()
        while len(self.rows):
            ended = len(self.rows) - int(self.rows.running_B.sum())
            if ended < _ENDED_SHARE * len(self.rows) and not self.cache.is_full:
                self._step()
            else:
                left = dict(self.rows.ended(self.end_token_ids))
                completions.update(left)
                self._change()
                tell(left)
        return [completions[i] for i in range(len(self.requests))]

    def _change(self) -> None:
        """Drops what has ended, takes in what waits, and makes room for more tokens."""
        rows, parts = [], []
        kept_B = self.rows.running_B.nonzero()[:, 0]
        if len(kept_B):
            rows.append(self.rows[kept_B])
            parts.append(Part(self.cache, kept_B))
        free = self.batch_size - len(kept_B)
        while self.waiting and free:
            chosen = self._next(free)
            new, part = self._begin(chosen)
            rows.append(new)
            parts.append(part)
            free -= len(chosen)
        self.rows = Rows.cat(rows) if rows else self.rows[kept_B]
        if rows:
            longest = int(self.rows.length_B.max())
            self.cache = joined(parts, longest, room_for(longest))

    def _next(self, most: int) -> list[int]:
        """Takes at most `most` waiting requests, whose prompts fit into one pass."""
        chosen, prompts = list[int](), set[tuple[int, ...]]()
        while self.waiting and len(chosen) < most:
            prompt = tuple(self.requests[self.waiting[0]].prompt_ids)
            prompts.add(prompt)
            if chosen and len(prompts) * len(prompt) > _PASS_TOKENS:
                break
            chosen.append(self.waiting.popleft())
        return chosen

    def _begin(self, chosen: Sequence[int]) -> tuple[Rows, Part]:
        """Draws the first token of some requests."""
        # The requests of a group have the same prompt, which is computed once.
        prompts = [tuple(self.requests[i].prompt_ids) for i in chosen]
        different = list(dict.fromkeys(prompts))
        number = {prompt: i for i, prompt in enumerate(different)}
        source_B = torch.tensor([number[prompt] for prompt in prompts], device=self.device)
        lengths_P = torch.tensor([len(prompt) for prompt in different], device=self.device)
        longest = max(map(len, different))
        # Any token can be padding, because it is masked.
        padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in different]
        places_PL = torch.arange(longest, device=self.device) - (longest - lengths_P)[:, None]
        cache = Cache(layer_class_to_replicate=DynamicLayer)
        logits_PV = self._logits(
            torch.tensor(padded, device=self.device), places_PL, places_PL >= 0, cache
        )
        seeds = [self.requests[i].seed for i in chosen]
        rows = Rows.of(chosen, seeds, lengths_P[source_B], self.draw)
        rows.extend(logits_PV[source_B], self.draw, self.end_tokens)
        return rows, Part(cache, source_B)

    def _step(self) -> None:
        """Computes one more token of each sequence."""
        rows, cache = self.rows, self.cache
        columns = torch.arange(cache.columns, device=self.device)
        start_B1 = (cache.span.end - rows.length_B)[:, None]
        mask_BC = (columns >= start_B1) & (columns <= cache.span.end)
        logits_BV = self._logits(rows.last_B1, rows.length_B[:, None], mask_BC, cache)
        cache.span.end += 1
        rows.length_B += 1
        rows.extend(logits_BV, self.draw, self.end_tokens)

    def _logits(self, ids_BL: Tensor, places_BL: Tensor, mask_BC: Tensor, cache: Cache) -> Tensor:
        """The logits [B, V] of the token after the last one."""
        # What has ended may go on to a place that the model does not know.
        places_BL = places_BL.clamp(0, self.last_place)
        optional = {"position_ids": places_BL, "logits_to_keep": 1}
        known = {name: value for name, value in optional.items() if name in self.accepted}
        return self.model(
            input_ids=ids_BL, attention_mask=mask_BC, past_key_values=cache, use_cache=True, **known
        ).logits[:, -1]
