"""Attention of one new token for each sequence to all tokens before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from stapo_pl.policy.attention import padded_attention

DECODING = "stapo_decoding"
"""Its name among transformers' attention implementations."""


def decoding_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """The same as transformers' `sdpa`, but without its copies of keys for every head of queries.

    Query heads that share a head of keys become several queries of that head. For so few queries
    plain products are faster on a CPU than the fused kernel. A whole prompt goes the usual way, and
    so does a mask that is not the same for all heads, or adds to the scores.

    Args:
        query: [B, heads, L, head dimension]. Keys and values may have fewer heads.
        attention_mask: [B, 1, L, columns], true where a query may look.
    """
    is_plain = attention_mask is None or (
        attention_mask.dtype == torch.bool and attention_mask.shape[1] == 1
    )
    if query.shape[2] > 1 or not is_plain or kwargs.get("position_bias") is not None:
        return padded_attention(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    grouped = query.view(len(query), key.shape[1], -1, query.shape[3])
    scores = (grouped * (scaling or query.shape[3] ** -0.5)) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores.masked_fill_(~attention_mask, -torch.inf)
    out = scores.softmax(-1) @ value
    return out.view(len(query), 1, query.shape[1], -1), None


AttentionInterface.register(DECODING, decoding_attention)
AttentionMaskInterface.register(DECODING, sdpa_mask)
