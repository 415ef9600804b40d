"""Attention among sequences that lie end to end, without padding the layers around it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from stapo_pl.errors import ConfigError

PACKED = "stapo_packed"
"""Its name among transformers' attention implementations."""


def padded_places(ends: Tensor, longest: int, total: int) -> Tensor:
    """Index [S] of each packed token in sequences padded on the right, [B * longest].

    Args:
        ends: [B + 1], where each sequence begins, and the end of the last one.
        longest: length of the longest sequence.
        total: S, tokens in all.
    """
    lengths_B = ends.diff()
    sequences = torch.arange(len(lengths_B), device=ends.device)
    row_S = sequences.repeat_interleave(lengths_B, output_size=total)
    return torch.arange(total, device=ends.device) - ends[row_S] + row_S * longest


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Causal attention within each packed sequence, called by transformers' models.

    Half precision on a GPU takes PyTorch's variable-length kernel. Everything else pads inside
    attention alone, which is the small part of a layer.

    Args:
        query: [1, heads, S, head dimension]; key and value may have fewer heads.
        cu_seq_lens_q: [B + 1], where each sequence begins, and the end of the last one.
        max_length_q: length of the longest.

    Returns:
        [1, S, heads, head dimension], and no attention weights.

    Raises:
        ConfigError: the layer attends to a sliding window.
    """
    if sliding_window is not None:
        raise ConfigError("model.packing does not know sliding windows")
    ends, longest = cu_seq_lens_q, max_length_q
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout:
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        out = varlen_attn(
            q, k, v, ends, ends, longest, longest,
            scale=scaling, window_size=(-1, 0), enable_gqa=True,
        )  # fmt: skip
        return out[None], None
    total, sequences = query.shape[2], len(ends) - 1
    places_S = padded_places(ends, longest, total)

    def pad(x: Tensor) -> Tensor:
        padded = x.new_zeros(sequences * longest, x.shape[1], x.shape[3])
        padded = padded.index_copy(0, places_S, x[0].transpose(0, 1))
        return padded.unflatten(0, (sequences, longest)).transpose(1, 2)

    out = F.scaled_dot_product_attention(
        pad(query), pad(key), pad(value),
        dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True,
    )  # fmt: skip
    return out.transpose(1, 2).flatten(0, 1)[places_S][None], None


AttentionInterface.register(PACKED, packed_attention)
