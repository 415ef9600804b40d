"""Sampling with transformers' own `generate`, for models that keep more than keys and values.

A recurrent layer keeps a state of all tokens so far. Continuous batching does not know such states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from stapo_pl.core.types import Completion, Decoding, Ended, Request
from stapo_pl.samplers.drawing import Draw


def keeps_only_tokens(model: PreTrainedModel) -> bool:
    """Whether all that a model knows of earlier tokens is keys and values in the cache it is given.

    It must also see by the mask alone where a query stands. Models whose attention can be exchanged
    do so. Some others count the columns of the cache.
    """
    layers = DynamicCache(config=model.config).layers
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return plain and model._supports_attention_backend and not model._is_stateful


def generate_in_turns(
    model: PreTrainedModel,
    end_token_ids: Sequence[int],
    decoding: Decoding,
    batch_size: int,
    requests: Sequence[Request],
    tell: Ended,
) -> list[Completion]:
    """Answers one batch of requests after another; see `continuous.Generation`."""
    # Prompts of similar length share a batch, so that little padding is computed.
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
    completions: dict[int, Completion] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = _batch(model, end_token_ids, decoding, [requests[i] for i in chosen])
        ended = dict(zip(chosen, batch, strict=True))
        completions.update(ended)
        tell(ended)
    return [completions[i] for i in range(len(requests))]


def _batch(
    model: PreTrainedModel,
    end_token_ids: Sequence[int],
    decoding: Decoding,
    requests: Sequence[Request],
) -> list[Completion]:
    longest = max(len(request.prompt_ids) for request in requests)
    # Any token can be padding: it is masked before a prompt, and cut off after a response.
    padding = end_token_ids[0]
    ids_BL = torch.full((len(requests), longest), padding, device=model.device)
    attention_mask_BL = torch.zeros_like(ids_BL)
    for row, request in enumerate(requests):
        start = longest - len(request.prompt_ids)
        ids_BL[row, start:] = torch.tensor(request.prompt_ids, device=model.device)
        attention_mask_BL[row, start:] = 1
    draw = _SeededDraw([request.seed for request in requests], decoding, model.device)
    # The type of a model does not say that it has `generate`.
    tokens_BL = model.generate(  # type: ignore[operator]
        input_ids=ids_BL,
        attention_mask=attention_mask_BL,
        generation_config=GenerationConfig(
            do_sample=False,  # the logits processor draws the token and allows no other
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=list(end_token_ids),
            pad_token_id=padding,
        ),
        logits_processor=LogitsProcessorList([draw]),
    )[:, longest:]
    rows = zip(tokens_BL.tolist(), torch.stack(draw.logprobs, 1).tolist(), strict=True)
    return [_completion(tokens, logprobs, end_token_ids) for tokens, logprobs in rows]


def _completion(
    tokens: list[int], logprobs: list[float], end_token_ids: Sequence[int]
) -> Completion:
    ends = (place for place, token in enumerate(tokens) if token in end_token_ids)
    end = next(ends, None)
    length = len(tokens) if end is None else end + 1
    return Completion(tokens[:length], logprobs[:length], truncated=end is None)


class _SeededDraw(LogitsProcessor):
    """Draws the token of each sequence, and returns logits that allow only that token."""

    def __init__(self, seeds: Sequence[int], decoding: Decoding, device: torch.device) -> None:
        self.draw = Draw(decoding)
        self.logprobs: list[Tensor] = []
        self.uniforms_BL = torch.stack([self.draw.uniforms(seed) for seed in seeds]).to(device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token_B, logp_B = self.draw(scores, self.uniforms_BL[:, len(self.logprobs)])
        self.logprobs.append(logp_B)
        return torch.full_like(scores, -torch.inf).scatter(-1, token_B[:, None], 0.0)
