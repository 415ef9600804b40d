"""How much memory an engine gets, and what a user can change if it could not start."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from stapo_pl.samplers.memory import cache_bytes, weight_bytes

_GIB = 2**30
# Engines hand out the KV cache in blocks, and keep one block for themselves. No block is longer
# than this.
_BLOCK_TOKENS = 256
# The share of the device's memory that goes to other things than weights and KV cache: activations,
# CUDA graphs, the libraries themselves.
_OTHER_SHARE = 0.1
# Shares of the device's memory: the margin that stays free, and the most that an engine gets.
_MARGIN, _MOST = 0.08, 0.9


def share_of_room(room: int, device: int) -> float:
    """The share of a device's memory that an engine gets.

    A margin stays free for what no plan counts: libraries and their contexts, fragments of memory,
    and the one tensor at a time that is gathered and sent.

    Args:
        room: bytes that are left for the engine.
        device: bytes of the device's memory.
    """
    return min(_MOST, max(0.01, _down(room / device - _MARGIN)))


@dataclass
class EngineMemory:
    """What an engine needs, and how much memory was free before it started; all in GiB.

    Args:
        config: the Hugging Face configuration of the model.
        dtype: type of the weights and of the KV cache.
        max_tokens: tokens of the longest sequence.
        device: the device that the engine runs on.
        tensor_parallel_size: the number of ranks that hold the engine together.
    """

    config: PreTrainedConfig
    dtype: torch.dtype
    max_tokens: int
    device: torch.device
    tensor_parallel_size: int = 1

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
        else:
            import psutil  # vLLM depends on it, this package does not

            memory = psutil.virtual_memory()
            free, total = memory.available, memory.total
        self.free, self.total = free / _GIB, total / _GIB

    @property
    def weights(self) -> float:
        return weight_bytes(self.config, self.dtype) / self.tensor_parallel_size / _GIB

    @property
    def sequence_cache(self) -> float:
        """The KV cache of one sequence of the greatest length, which is the least that works."""
        tokens = (math.ceil(self.max_tokens / _BLOCK_TOKENS) + 1) * _BLOCK_TOKENS
        return cache_bytes(self.config, self.dtype, tokens) / self.tensor_parallel_size / _GIB

    def advice(self, gpu_memory_utilization: float, kv_cache_gib: float | None) -> str:
        """Says which setting to change, and to what.

        Args:
            gpu_memory_utilization: the share of the device's memory that the engine was given.
            kv_cache_gib: the size of its KV cache; None if it gets what is left of that share.
        """
        needs = (
            f"the weights take about {self.weights:.2g} GiB, the KV cache of one sequence of "
            f"{self.max_tokens} tokens {self.sequence_cache:.2g} GiB; "
            f"{self.free:.1f} of {self.total:.1f} GiB were free"
        )
        return f"{needs}: {self._change(gpu_memory_utilization, kv_cache_gib)}"

    def _change(self, share: float, cache: float | None) -> str:
        least = self.weights + self.sequence_cache + _OTHER_SHARE * self.total
        if least > self.free:
            return (
                "it does not fit: free memory, lower data.max_new_tokens, use a smaller "
                "sampler.dtype or a larger sampler.tensor_parallel_size"
            )
        if cache is not None and cache < self.sequence_cache:
            return (
                f"raise sampler.kv_cache_gib from {cache:g} to at least "
                f"{_up(self.sequence_cache):g}, or lower data.max_new_tokens"
            )
        if cache is not None and self.weights + cache > self.free:
            room = self.free - self.weights
            return f"lower sampler.kv_cache_gib from {cache:g} to at most {_down(room):g}"
        if share * self.total > self.free:
            return (
                f"lower sampler.gpu_memory_utilization from {share:g} to at most "
                f"{_down(self.free / self.total):g}"
            )
        if cache is None and share * self.total < least:
            return (
                f"raise sampler.gpu_memory_utilization from {share:g} to at least "
                f"{_up(least / self.total):g}, or lower data.max_new_tokens"
            )
        return (
            "lower sampler.engine_args.max_num_seqs (256 or more by default) to 64, or set "
            "sampler.cuda_graphs=false"
        )


def _up(x: float) -> float:
    """The number rounded up to two significant digits."""
    digits = 1 - math.floor(math.log10(x))
    return math.ceil(x * 10**digits) / 10**digits


def _down(x: float) -> float:
    return math.floor(x * 100) / 100
