"""Attention by fused kernels, for padded sequences and for packed ones, which lie end to end."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from stapo_pl.core.errors import ConfigError

PADDED, PACKED = "stapo_padded", "stapo_packed"
"""The names of the two among transformers' attention implementations."""

# In torch 2.11 it does not.
_VARLEN_TAKES_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters


def takes_groups(on_gpu: bool, dtype: torch.dtype) -> bool:
    """Whether a fused kernel takes fewer heads of keys than of queries.

    On a GPU only the kernels for half precision do. In other precisions PyTorch would silently use
    no fused kernel and make a [heads, L, L] matrix.
    """
    return not on_gpu or dtype in (torch.bfloat16, torch.float16)


def repeat_groups(x: Tensor, heads: int, dim: int = 1) -> Tensor:
    """Repeats heads of keys or values so that there are as many as heads of queries."""
    return x.repeat_interleave(heads // x.shape[dim], dim)


def padded_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs,
) -> tuple[Tensor, None]:
    """The same as transformers' `sdpa`, but by a fused kernel in any precision.

    Args:
        query: [B, heads, L, head dimension]. Keys and values may have fewer heads.
    """
    device = query.device.type
    autocasting = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocasting else query.dtype
    if takes_groups(query.is_cuda, dtype):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return repeated_attention(module, query, key, value, attention_mask, **kwargs)


def repeated_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs,
) -> tuple[Tensor, None]:
    """transformers' `sdpa` with repeated heads of keys and values; see `padded_attention`."""
    key, value = (repeat_groups(x, query.shape[1]) for x in (key, value))
    if kwargs.get("is_causal") is None:
        kwargs["is_causal"] = getattr(module, "is_causal", True)
    # Given the module, it would repeat the heads again.
    module = None  # type: ignore[assignment]
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def padded_places(ends: Tensor, longest: int, total: int) -> Tensor:
    """For each packed token its place [S] among the B * longest tokens of padded sequences.

    Args:
        ends: [B + 1], the place at which each sequence begins, and the end of the last one.
        longest: length of the longest sequence.
        total: S, the number of packed tokens.
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
    """Causal attention inside each packed sequence. transformers' models call it.

    In half precision on a GPU it uses PyTorch's kernel for sequences of different lengths.
    Otherwise it pads the sequences, but only inside attention, which is a small part of a layer.

    Args:
        query: [1, heads, S, head dimension]. Keys and values may have fewer heads.
        cu_seq_lens_q: [B + 1], the place at which each sequence begins, and the end of the last.
        max_length_q: length of the longest sequence.

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
        q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
        settings: dict[str, Any]
        if _VARLEN_TAKES_GROUPS:
            settings = {"enable_gqa": True}
        else:
            settings, k, v = {}, repeat_groups(k, q.shape[1]), repeat_groups(v, q.shape[1])
        out: Any = varlen_attn(
            q, k, v, ends, ends, longest, longest,
            scale=scaling, window_size=(-1, 0), **settings,
        )  # fmt: skip
        return out.unsqueeze(0), None
    if not takes_groups(query.is_cuda, query.dtype):
        key, value = (repeat_groups(x, query.shape[1]) for x in (key, value))
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
AttentionInterface.register(PADDED, padded_attention)
AttentionMaskInterface.register(PADDED, sdpa_mask)
