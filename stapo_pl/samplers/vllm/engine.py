"""One running vLLM engine: it starts, takes weights, samples, sleeps and ends."""

from __future__ import annotations

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
from stapo_pl.core.types import Completion, Decoding, Ended, Request
from stapo_pl.core.world import World
from stapo_pl.samplers.identity import SentWeights, check_held
from stapo_pl.samplers.vllm.containment import (
    clear_death,
    kept_process_group,
    kept_threads,
    named_rank,
    one_line,
)
from stapo_pl.samplers.vllm.folder import config_folder
from stapo_pl.samplers.vllm.requests import completion, sampling_params

# The tests run against these versions.
_TESTED = "0.32."
# vLLM reads these variables when it is imported. The second lets it share a CPU's cores with the
# trainer.
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
# The ranks, the weight sync and the log-probabilities rely on these arguments of `vllm.LLM`.
_FIXED = {
    "load_format": "dummy",  # the policy sends the weights
    "skip_tokenizer_init": True,
    "seed": 0,
    "generation_config": "vllm",  # or a top-p of the model's own would be used
    "logprobs_mode": "processed_logprobs",  # those of the distribution that is drawn from
}


class Engine:
    """A vLLM engine in this process, alone or as a part of one that several ranks hold together.

    Args:
        config: the Hugging Face configuration of the model.
        arguments: arguments of `vllm.LLM` besides those that are always the same.
        device: the device on which this rank computes.
        end_token_ids: the tokens that end a response.
        advice: returns what a user can do if there is too little memory.

    Raises:
        ConfigError: the engine cannot start.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        arguments: dict[str, Any],
        device: torch.device,
        end_token_ids: Sequence[int],
        advice: Callable[[], str],
    ) -> None:
        import vllm

        self._on_gpu = device.type == "cuda"
        self._dtype = getattr(torch, arguments["dtype"])
        self._ranks: int = arguments["tensor_parallel_size"]
        self._end_token_ids = list(end_token_ids)
        self._asleep: set[str] = set()
        folder = config_folder(config, Path(vllm.envs.VLLM_CACHE_ROOT) / "stapo_pl")
        settings: dict[str, Any] = _FIXED | arguments
        # These are Any because types are checked with and without vLLM.
        self.llm: Any
        self.model: Any
        with preserved_random_states(), kept_threads(), named_rank(device):
            try:
                self.llm = vllm.LLM(
                    str(folder),
                    distributed_executor_backend=(
                        "external_launcher" if World().size > 1 else "uni"
                    ),
                    **settings,
                )
            except Exception as error:  # a large engine may raise anything
                raise ConfigError(
                    f"the vLLM engine could not start: {one_line(error)}{_help(error, advice)}"
                ) from error
        (self.model,) = self.llm.apply_model(lambda model: model)
        self._loaded: set[str] | None = None
        self._remember_what_loads()

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Takes over the policy's parameters, and proves that it holds them.

        Raises:
            TrainingError: it does not hold them, or the engine died.
        """
        with clear_death("taking over weights"):
            self._wake("weights")
            expected = {name for name, _ in self.model.named_parameters()}
            sent = SentWeights(self._dtype)
            iterator = sent.noted(weights)
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iterator})
            if self._loaded is not None and (missing := expected - self._loaded):
                raise TrainingError(
                    f"vLLM's model got no weights for {', '.join(sorted(missing))}: its parameters "
                    "and those of the policy do not match"
                )
            self.repack_tied_head()
            packed = getattr(self.model, "packed_modules_mapping", {})
            check_held(*sent.compare(self.model, packed, *self._place()))
            if not self.llm.reset_prefix_cache():
                raise TrainingError("vLLM keeps its prefix cache: it would serve old weights")
            if self._on_gpu:
                torch.cuda.synchronize()  # so that the time that this takes is measured here

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        ended: Ended,
    ) -> list[Completion]:
        """Samples one completion for each request of this rank, in their order.

        It tells the completions of this rank as they end.

        Raises:
            TrainingError: the engine died.
        """
        assert "weights" not in self._asleep, "load_weights comes before the first use after sleep"
        requests, own = self._with_other_ranks(requests)
        with clear_death("sampling"), preserved_random_states(), self._without_compilation():
            self._wake("kv_cache")
            engine = self.llm.llm_engine
            for i, request in enumerate(requests):
                params = sampling_params(request, decoding, self._end_token_ids)
                engine.add_request(str(i), {"prompt_token_ids": list(request.prompt_ids)}, params)
            completions: dict[int, Completion] = {}
            while engine.has_unfinished_requests():
                new = {int(out.request_id): completion(out.outputs[0]) for out in engine.step()}
                completions.update(new)
                if mine := {i - own.start: new[i] for i in new if i in own}:
                    ended(mine)
            return [completions[i] for i in own]

    def sleep(self, level: int) -> None:
        """Frees memory on a GPU until weights are loaded again; see `VLLMSampler` for the levels.

        Raises:
            TrainingError: the engine died.
        """
        if "weights" not in self._asleep:
            with clear_death("falling asleep"):
                self.llm.sleep(level)
            self._asleep = {"weights", "kv_cache"}

    def close(self) -> None:
        if self._asleep and self._on_gpu:
            torch.cuda.empty_cache()
            self.llm.wake_up()  # vLLM can free only memory that is mapped
        with kept_process_group():
            self.llm.llm_engine.engine_core.shutdown()
        del self.llm, self.model

    def repack_tied_head(self) -> None:
        """Makes the packed copy that the head multiplies by again.

        There is such a copy on a CPU only. When the weights are loaded again, vLLM leaves it as it
        was if the head is tied to the embedding.
        """
        head = getattr(self.model, "lm_head", None)
        if head is not None and hasattr(head, "cpu_linear"):
            head.quant_method.process_weights_after_loading(head)

    def _wake(self, what: Literal["weights", "kv_cache"]) -> None:
        if what in self._asleep:
            # PyTorch keeps memory that updates have freed, and vLLM cannot use it.
            if self._on_gpu:
                torch.cuda.empty_cache()
            self.llm.wake_up([what])
            self._asleep.remove(what)

    def _with_other_ranks(self, requests: Sequence[Request]) -> tuple[Sequence[Request], range]:
        """The requests of all ranks that hold this engine, and which of them are this rank's."""
        if self._ranks == 1:
            return requests, range(len(requests))
        group = _tensor_parallel_group()
        shares: list[list[Request]] = [[] for _ in range(group.world_size)]
        dist.all_gather_object(shares, list(requests), group=group.cpu_group)
        start = sum(len(share) for share in shares[: group.rank_in_group])
        merged = [request for share in shares for request in share]
        return merged, range(start, start + len(requests))

    def _place(self) -> tuple[int, int]:
        """The number of this rank among those that hold this engine, and how many hold it."""
        return (0, 1) if self._ranks == 1 else (_tensor_parallel_group().rank_in_group, self._ranks)

    def _without_compilation(self) -> AbstractContextManager:
        """On a CPU this saves 20 s of compiling in the first rollout, which made nothing faster."""
        return nullcontext() if self._on_gpu else torch.compiler.set_stance("force_eager")

    def _remember_what_loads(self) -> None:
        """Lets vLLM's model note the names of the parameters that it loads.

        vLLM itself only warns of parameters that were not loaded.
        """
        load_weights = self.model.load_weights

        def noting(weights: Iterable[tuple[str, Tensor]]) -> set[str] | None:
            self._loaded = load_weights(weights)
            return self._loaded

        self.model.load_weights = noting


def prepare_vllm() -> None:
    """Imports vLLM with the environment variables that it needs; warns of an untested version."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import vllm

    if not vllm.__version__.startswith(_TESTED):
        warnings.warn(
            f"vLLM {vllm.__version__} is installed, tested is {_TESTED}x: watch "
            "rollout/sampler_gap_max",
            stacklevel=3,
        )
    if World().size == 1:
        # vLLM makes a process group of one process. Because of it, Lightning takes the run for a
        # distributed one and gives this advice.
        warnings.filterwarnings("ignore", message="It is recommended to use `self.log")


def _help(error: Exception, advice: Callable[[], str]) -> str:
    """What to do about an engine that did not start; empty if nothing is known."""
    if "memory" in str(error).lower():
        return "; " + advice()
    if "SHMManager" in str(error):
        return "; a run that was killed left it: delete /dev/shm/*cpushm*"
    return ""


def _tensor_parallel_group() -> Any:
    from vllm.distributed.parallel_state import get_tp_group

    return get_tp_group()
