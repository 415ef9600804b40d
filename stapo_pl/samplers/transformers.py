"""Sampling with transformers' own `generate`. It needs no further package and no GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedConfig,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import preserved_random_states
from stapo_pl.core.types import Completion, Decoding, Request
from stapo_pl.samplers.base import Room, Sampler, SamplerShare
from stapo_pl.samplers.identity import SentWeights, check_held
from stapo_pl.samplers.memory import cache_bytes, weight_bytes

# Bytes for each word of the vocabulary while one token is drawn: the logits and three more numbers
# in fp32, the probability and its running sum in fp64.
_DRAW_BYTES = 4 * 4 + 2 * 8


class TransformersSampler(Sampler):
    """Samples in batches from a full float32 copy of the policy.

    Args:
        batch_size: the number of sequences that are decoded at the same time.

    Raises:
        ConfigError: the batch size is below 1.
    """

    def __init__(self, batch_size: int = 256) -> None:
        if batch_size < 1:
            raise ConfigError(f"sampler.batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size

    def build(
        self,
        config: PreTrainedConfig,
        end_token_ids: Sequence[int],
        device: torch.device,
        max_tokens: int,
        room: Room,
    ) -> None:
        with preserved_random_states():
            self.model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        self.model.to(device).eval().requires_grad_(False)
        self.end_token_ids = list(end_token_ids)
        # Any token can be padding: it is masked before a prompt, and cut off after a response.
        self.pad_token_id = self.end_token_ids[0]

    def share(
        self,
        config: PreTrainedConfig,
        device: torch.device,
        max_tokens: int,
        room: Room,
    ) -> SamplerShare:
        weights = weight_bytes(config, torch.float32)
        cache = cache_bytes(config, torch.float32, self.batch_size * max_tokens)
        draw = self.batch_size * config.get_text_config().vocab_size * _DRAW_BYTES
        note = f"transformers: a float32 replica, KV cache of {self.batch_size} sequences"
        return SamplerShare(weights + cache + draw, weights, note)

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        own, sent = dict(self.model.named_parameters()), SentWeights(torch.float32)
        for name, tensor in sent.noted(weights):
            own.pop(name).copy_(tensor)
        if own:
            raise ValueError(f"the policy sent no weights for {', '.join(sorted(own))}")
        check_held(*sent.compare(self.model))

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        progress: Callable[[int, int], None],
    ) -> list[Completion]:
        # Prompts of similar length share a batch, so that little padding is computed.
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        completions: dict[int, Completion] = {}
        for start in range(0, len(order), self.batch_size):
            progress(start, len(order))
            chosen = order[start : start + self.batch_size]
            batch = self._generate_batch([requests[i] for i in chosen], decoding)
            completions.update(zip(chosen, batch, strict=True))
        return [completions[i] for i in range(len(requests))]

    def close(self) -> None:
        self.model = None

    def _generate_batch(self, requests: Sequence[Request], decoding: Decoding) -> list[Completion]:
        longest = max(len(request.prompt_ids) for request in requests)
        device = self.model.device
        ids_BL = torch.full((len(requests), longest), self.pad_token_id, device=device)
        attention_mask_BL = torch.zeros_like(ids_BL)
        for row, request in enumerate(requests):
            start = longest - len(request.prompt_ids)
            ids_BL[row, start:] = torch.tensor(request.prompt_ids, device=device)
            attention_mask_BL[row, start:] = 1
        draw = _SeededDraw([request.seed for request in requests], decoding, device)
        tokens_BL = self.model.generate(
            input_ids=ids_BL,
            attention_mask=attention_mask_BL,
            generation_config=GenerationConfig(
                do_sample=False,  # the logits processor draws the token and allows no other
                max_new_tokens=decoding.max_new_tokens,
                eos_token_id=self.end_token_ids,
                pad_token_id=self.pad_token_id,
            ),
            logits_processor=LogitsProcessorList([draw]),
        )[:, longest:]
        rows = zip(tokens_BL.tolist(), torch.stack(draw.logprobs, 1).tolist(), strict=True)
        return [self._completion(tokens, logprobs) for tokens, logprobs in rows]

    def _completion(self, tokens: list[int], logprobs: list[float]) -> Completion:
        ends = (place for place, token in enumerate(tokens) if token in self.end_token_ids)
        end = next(ends, None)
        length = len(tokens) if end is None else end + 1
        return Completion(tokens[:length], logprobs[:length], truncated=end is None)


class _SeededDraw(LogitsProcessor):
    """Draws tokens so that a request's tokens do not depend on the batch that it is in.

    Each request has its own random generator, seeded with the request's seed. Its t-th token is the
    one at which the cumulative distribution crosses the generator's t-th number. The processor
    returns logits that allow only that token.
    """

    def __init__(self, seeds: list[int], decoding: Decoding, device: torch.device) -> None:
        self.logprobs: list[Tensor] = []
        self.greedy = decoding.temperature == 0
        uniforms = [
            torch.rand(
                decoding.max_new_tokens,
                generator=torch.Generator().manual_seed(seed),
                dtype=torch.float64,
            )
            for seed in seeds
        ]
        self.uniforms_LB = torch.stack(uniforms, 1).to(device)
        self.warpers = LogitsProcessorList()
        if not self.greedy:
            if decoding.temperature != 1:
                self.warpers.append(TemperatureLogitsWarper(decoding.temperature))
            if decoding.top_k:
                self.warpers.append(TopKLogitsWarper(decoding.top_k))
            if decoding.top_p < 1:
                self.warpers.append(TopPLogitsWarper(decoding.top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        # transformers annotates LongTensor and FloatTensor, and a plain Tensor is neither.
        logits_BV = self.warpers(input_ids, scores.float())  # type: ignore[arg-type]
        logp_BV = logits_BV.log_softmax(-1)
        if self.greedy:
            choice_B1 = logp_BV.argmax(-1, keepdim=True)
        else:
            cumulative_BV = logp_BV.double().exp().cumsum(-1)
            target_B1 = self.uniforms_LB[len(self.logprobs), :, None] * cumulative_BV[:, -1:]
            # With right=True, tokens of probability 0 are never chosen.
            choice_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
            choice_B1.clamp_(max=scores.shape[-1] - 1)
        self.logprobs.append(logp_BV.gather(-1, choice_B1)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter(-1, choice_B1, 0.0)
