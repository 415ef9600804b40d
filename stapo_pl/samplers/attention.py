"""Attention of one new token for each sequence to all tokens before it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
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
    """The same as transformers' `sdpa`, which copies keys and values for every head of queries.

    Query heads that share a head of keys become several queries of that head, so nothing is copied.
    A whole prompt goes the usual way.

    Args:
        query: [B, heads, L, head dimension]. Keys and values may have fewer heads.
        attention_mask: [B, 1, L, columns], true where a query may look.
    """
    if query.shape[2] > 1 or kwargs.get("position_bias") is not None:
        return padded_attention(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    grouped = query.view(len(query), key.shape[1], -1, query.shape[3])
    out = F.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.view(len(query), 1, query.shape[1], -1), None


AttentionInterface.register(DECODING, decoding_attention)
AttentionMaskInterface.register(DECODING, sdpa_mask)
