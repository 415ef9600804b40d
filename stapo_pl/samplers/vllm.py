"""Sampling with vLLM, colocated: one engine in the process of each rank."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedConfig

from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.seeding import preserved_random_states
from stapo_pl.core.types import Completion, Decoding, Request
from stapo_pl.core.world import World
from stapo_pl.samplers.base import Room, Sampler, SamplerShare
from stapo_pl.samplers.containment import (
    clear_death,
    kept_process_group,
    kept_threads,
    named_rank,
    one_line,
)
from stapo_pl.samplers.folder import config_folder
from stapo_pl.samplers.identity import SentWeights, check_held
from stapo_pl.samplers.memory import EngineMemory, cache_bytes, share_of_room, weight_bytes

# The versions that the tests run against.
_TESTED = "0.32."
_GIB = 2**30
# The share of a GPU that an engine takes where no plan could be made.
_UNPLANNED = 0.4
# Read by vLLM when it is imported; on a CPU it is to share the cores with the trainer.
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
# What the ranks, the weight sync and the log-probabilities rely on.
_OURS = (
    "model", "load_format", "skip_tokenizer_init", "dtype", "max_model_len", "seed",
    "generation_config", "logprobs_mode", "enforce_eager", "enable_sleep_mode",
    "gpu_memory_utilization", "kv_cache_memory_bytes", "tensor_parallel_size",
    "distributed_executor_backend", "pipeline_parallel_size", "data_parallel_size",
    "prefill_context_parallel_size", "decode_context_parallel_size", "quantization",
    "speculative_config",
)  # fmt: skip


class VLLMSampler(Sampler):
    """vLLM's engine, in this process, with weights that the policy streams into it.

    Args:
        dtype: of its weights; `auto` is bfloat16 on a GPU and float32 on a CPU.
        gpu_memory_utilization: share of the GPU's memory for its weights and KV cache; `auto` is
            what the memory plan leaves while it samples (if it never sleeps: at the run's peak),
            less a margin.
        kv_cache_gib: size of the KV cache in GiB; None is what gpu_memory_utilization leaves on a
            GPU, and 1 on a CPU (where VLLM_CPU_KVCACHE_SPACE, if set, wins).
        tensor_parallel_size: consecutive ranks that hold one engine together.
        sleep_level: what becomes of its memory on a GPU during updates: 0 it stays, 1 the KV cache
            is freed and weights move to the host, 2 both are freed.
        cuda_graphs: whether decoding is captured in CUDA graphs; without, the start is faster.
        max_model_len: longest prompt and response together; None is what the data needs.
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
        self._asleep: set[str] = set()

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
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import vllm

        if not vllm.__version__.startswith(_TESTED):
            warnings.warn(
                f"vLLM {vllm.__version__} is installed, tested is {_TESTED}x: watch "
                "rollout/sampler_gap_max",
                stacklevel=2,
            )
        if World().size == 1:
            # vLLM makes a process group of one, and Lightning takes the run for a distributed one.
            warnings.filterwarnings("ignore", message="It is recommended to use `self.log")
        on_gpu = device.type == "cuda"
        dtype, cache_gib = self._settled(on_gpu)
        utilization = self._utilization(room)
        self._dtype = getattr(torch, dtype)
        folder = config_folder(config, Path(vllm.envs.VLLM_CACHE_ROOT) / "stapo_pl")
        memory = EngineMemory(config, self._dtype, max_model_len, device, self.tensor_parallel_size)
        with (
            preserved_random_states(),
            kept_threads(),
            named_rank(device),
        ):
            try:
                self._llm = vllm.LLM(
                    str(folder),
                    load_format="dummy",  # the policy sends the weights
                    skip_tokenizer_init=True,
                    dtype=dtype,
                    max_model_len=max_model_len,
                    seed=0,
                    generation_config="vllm",  # else the model's own top-p slips in
                    logprobs_mode="processed_logprobs",  # of the distribution drawn from
                    enforce_eager=not (on_gpu and self.cuda_graphs),
                    enable_sleep_mode=on_gpu and self.sleep_level > 0,
                    gpu_memory_utilization=utilization,
                    kv_cache_memory_bytes=None if cache_gib is None else int(cache_gib * _GIB),
                    tensor_parallel_size=self.tensor_parallel_size,
                    distributed_executor_backend=(
                        "external_launcher" if World().size > 1 else "uni"
                    ),
                    **({} if on_gpu else _whole_prompts(max_model_len)) | self.engine_args,
                )
            except Exception as error:  # whatever a large engine may raise
                advice = ""
                if "memory" in str(error).lower():
                    advice = "; " + memory.advice(utilization, cache_gib)
                elif "SHMManager" in str(error):
                    advice = "; a run that was killed left it: delete /dev/shm/*cpushm*"
                raise ConfigError(
                    f"the vLLM engine could not start: {one_line(error)}{advice}"
                ) from error
        (self._model,) = self._llm.apply_model(lambda model: model)
        self._loaded: set[str] | None = None
        self._remember_what_loads()
        self._end_token_ids, self._on_gpu = list(end_token_ids), on_gpu
        self._asleep = set()

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
        with clear_death("taking over weights"):
            self._wake("weights")
            expected = {name for name, _ in self._model.named_parameters()}
            sent = SentWeights(self._dtype)
            iterator = sent.noted(weights)
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iterator})
            if self._loaded is not None and (missing := expected - self._loaded):
                raise TrainingError(
                    f"vLLM's model got no weights for {', '.join(sorted(missing))}: its parameters "
                    "and those of the policy do not match"
                )
            self._repack_tied_head()
            packed = getattr(self._model, "packed_modules_mapping", {})
            check_held(*sent.compare(self._model, packed, *self._place()))
            if not self._llm.reset_prefix_cache():
                raise TrainingError("vLLM keeps its prefix cache: it would serve old weights")
            if self._on_gpu:
                torch.cuda.synchronize()  # so that the time it takes can be told

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        progress: Callable[[int, int], None],
    ) -> list[Completion]:
        assert "weights" not in self._asleep, "load_weights comes before the first use after sleep"
        requests, mine = self._with_those_of_my_engine(requests)
        with clear_death("sampling"), preserved_random_states(), self._without_compilation():
            self._wake("kv_cache")
            return self._run(requests, decoding, progress)[mine]

    def sleep(self) -> bool:
        if self.sleep_level and "weights" not in self._asleep:
            with clear_death("falling asleep"):
                self._llm.sleep(self.sleep_level)
            self._asleep = {"weights", "kv_cache"}
        return bool(self.sleep_level)

    def close(self) -> None:
        if hasattr(self, "_llm"):
            if self._asleep and self._on_gpu:
                torch.cuda.empty_cache()
                self._llm.wake_up()  # memory that is not mapped cannot be freed
            with kept_process_group():
                self._llm.llm_engine.engine_core.shutdown()
            del self._llm, self._model

    def _run(
        self, requests: Sequence[Request], decoding: Decoding, progress: Callable[[int, int], None]
    ) -> list[Completion]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        engine = self._llm.llm_engine
        for i, request in enumerate(requests):
            params = SamplingParams(
                max_tokens=decoding.max_new_tokens,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                top_k=decoding.top_k,
                seed=request.seed,
                stop_token_ids=self._end_token_ids,
                ignore_eos=True,  # no other that the engine may find in the model's config
                logprobs=0,  # of the drawn token alone
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            engine.add_request(str(i), {"prompt_token_ids": list(request.prompt_ids)}, params)
        completions: dict[int, Completion] = {}
        while engine.has_unfinished_requests():
            progress(len(completions), len(requests))
            for output in engine.step():
                completions[int(output.request_id)] = _completion(output.outputs[0])
        return [completions[i] for i in range(len(requests))]

    def _settled(self, on_gpu: bool) -> tuple[str, float | None]:
        """Type of the weights and size of the KV cache, where they were left open."""
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

    def _with_those_of_my_engine(
        self, requests: Sequence[Request]
    ) -> tuple[Sequence[Request], slice]:
        """The requests of all ranks that hold this engine together, and where this rank's are."""
        if self.tensor_parallel_size == 1:
            return requests, slice(None)
        group = self._tensor_parallel_group()
        shares: list[list[Request]] = [[] for _ in range(group.world_size)]
        dist.all_gather_object(shares, list(requests), group=group.cpu_group)
        start = sum(len(share) for share in shares[: group.rank_in_group])
        merged = [request for share in shares for request in share]
        return merged, slice(start, start + len(requests))

    def _place(self) -> tuple[int, int]:
        """This rank's number among those that hold this engine together, and how many they are."""
        if self.tensor_parallel_size == 1:
            return 0, 1
        return self._tensor_parallel_group().rank_in_group, self.tensor_parallel_size

    @staticmethod
    def _tensor_parallel_group():
        from vllm.distributed.parallel_state import get_tp_group

        return get_tp_group()

    def _wake(self, what: Literal["weights", "kv_cache"]) -> None:
        if what in self._asleep:
            # PyTorch keeps what updates have freed, but not for vLLM.
            if self._on_gpu:
                torch.cuda.empty_cache()
            self._llm.wake_up([what])
            self._asleep.remove(what)

    def _without_compilation(self) -> AbstractContextManager:
        """On a CPU, spares the first rollout 20 s of compiling, which made nothing faster."""
        return nullcontext() if self._on_gpu else torch.compiler.set_stance("force_eager")

    def _remember_what_loads(self) -> None:
        """Lets vLLM's model note which of its parameters it loaded: it only warns of the others."""
        load_weights = self._model.load_weights

        def noting(weights: Iterable[tuple[str, Tensor]]) -> set[str] | None:
            self._loaded = load_weights(weights)
            return self._loaded

        self._model.load_weights = noting

    def _repack_tied_head(self) -> None:
        """On a CPU, the head multiplies by a packed copy, which a reload leaves stale if tied."""
        head = getattr(self._model, "lm_head", None)
        if hasattr(head, "cpu_linear"):
            head.quant_method.process_weights_after_loading(head)


def _whole_prompts(max_model_len: int) -> dict[str, Any]:
    """Arguments for a CPU, where a seeded request whose prompt is cut in two ends the engine."""
    # Without chunks, the longest prompt must fit a step; 4096 tokens are the usual step.
    return {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(4096, max_model_len),
    }


def is_installed() -> bool:
    """Whether vLLM can be imported. Does not import it."""
    return importlib.util.find_spec("vllm") is not None


def _completion(output) -> Completion:
    """Of vLLM's CompletionOutput."""
    if output.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"a request ended with {output.finish_reason}")
    steps = zip(output.logprobs, output.token_ids, strict=True)
    return Completion(
        token_ids=list(output.token_ids),
        logprobs=[logprobs[token].logprob for logprobs, token in steps],
        truncated=output.finish_reason == "length",
    )
