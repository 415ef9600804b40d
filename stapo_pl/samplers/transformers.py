"""Sampling with a model of transformers'. It needs no further package and no GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import preserved_random_states
from stapo_pl.core.types import Completion, Decoding, Ended, Request
from stapo_pl.samplers.attention import DECODING
from stapo_pl.samplers.base import Room, Sampler, SamplerShare
from stapo_pl.samplers.continuous import Generation, room_for
from stapo_pl.samplers.identity import SentWeights, check_held
from stapo_pl.samplers.memory import cache_bytes, weight_bytes
from stapo_pl.samplers.turns import generate_in_turns, keeps_only_tokens

# Bytes for each word of the vocabulary while one token is drawn: the logits and three more numbers
# in fp32, the probability and its running sum in fp64.
_DRAW_BYTES = 4 * 4 + 2 * 8


class TransformersSampler(Sampler):
    """Samples in batches from a full float32 copy of the policy.

    Args:
        batch_size: the largest number of sequences that are decoded at the same time.

    Raises:
        ConfigError: the batch size is below 1.
    """

    def __init__(self, batch_size: int = 512) -> None:
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
        config = copy.deepcopy(config)  # the policy has an attention of its own
        config._attn_implementation = None
        with preserved_random_states():
            self.model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        self.model.to(device).eval().requires_grad_(False)
        own = self.model.config._attn_implementation
        if own == "sdpa" and self.model._supports_attention_backend:
            self.model.set_attn_implementation(DECODING)
        self.end_token_ids = list(end_token_ids)

    def share(
        self,
        config: PreTrainedConfig,
        device: torch.device,
        max_tokens: int,
        room: Room,
    ) -> SamplerShare:
        weights = weight_bytes(config, torch.float32)
        columns = max_tokens + room_for(max_tokens)
        cache = cache_bytes(config, torch.float32, self.batch_size * columns)
        cache += cache // config.get_text_config().num_hidden_layers  # a layer is copied at a time
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
        ended: Ended,
    ) -> list[Completion]:
        how = self.model, self.end_token_ids, decoding, self.batch_size, requests
        if keeps_only_tokens(self.model):
            return Generation(*how).run(ended)
        return generate_in_turns(*how, ended)

    def close(self) -> None:
        self.model = None
