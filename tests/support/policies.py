"""Policies that are small enough for a unit test."""

from __future__ import annotations

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from stapo_pl.policy.model import Policy


def tiny_model(
    vocabulary: int = 40, tied: bool = True, seed: int = 0, dtype=torch.float64, head_dim: int = 8
) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=head_dim,
        max_position_embeddings=128, tie_word_embeddings=tied, eos_token_id=1, pad_token_id=0,
        bos_token_id=None, initializer_range=0.4,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).to(dtype)


def tiny_policy(*args, **kwargs) -> Policy:
    """The policy of `tiny_model` with the same arguments."""
    return Policy(tiny_model(*args, **kwargs))
