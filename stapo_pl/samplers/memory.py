"""What weights and a KV cache take of memory, in bytes."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig


def weight_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """The size of the weights of a model with this configuration. Makes no weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return model.num_parameters() * dtype.itemsize


def cache_bytes(config: PreTrainedConfig, dtype: torch.dtype, tokens: int) -> int:
    """The size of the KV cache for `tokens` tokens.

    This counts standard attention. Models that compress their cache need less.
    """
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return 2 * config.num_hidden_layers * heads * head_dim * dtype.itemsize * tokens
