"""What training allocates, found out by running it on tensors that have shapes and no data."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from stapo_pl.core.batches import MicroBatch, Tokens
from stapo_pl.core.seeding import preserved_random_states
from stapo_pl.policy.attention import repeated_attention
from stapo_pl.policy.model import Policy

# A policy runs without a mask, but given fake tensors transformers makes one for its own attention.
# It makes none for names that it knows no mask for.
_GROUPED, _REPEATED = "sdpa_without_mask", "repeated_without_mask"
AttentionInterface.register(_GROUPED, sdpa_attention_forward)
AttentionInterface.register(_REPEATED, repeated_attention)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes that operations allocate, as long as a tensor holds on to them.

    Args:
        known: tensors that do not count, nor do views of them.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self._peak = 0
        self._seen = WeakIdKeyDictionary({tensor.untyped_storage(): True for tensor in known})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage() not in self._seen:
                storage = leaf.untyped_storage()
                self._seen[storage] = True
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
        self._peak = max(self._peak, self.now)
        return out

    def take_peak(self) -> int:
        """The most that was there at a time since it was last asked for."""
        peak, self._peak = self._peak, self.now
        return peak

    def _free(self, size: int) -> None:
        self.now -= size


@dataclass
class Passes:
    """Bytes of a forward and a backward pass, besides the weights."""

    kept: int
    """Held for the backward pass when the forward pass is over: the activations."""
    head: int
    """The most that is there while the head works, forward or backward."""
    layers: int
    """The most that is there while the decoder layers work."""
    left: int
    """What is there at the end: gradients, where they count."""


def measure_passes(
    config: PreTrainedConfig,
    *,
    sequences: int,
    prompt_tokens: int,
    response_tokens: int,
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
    repeat_groups: bool = False,
    prepare: Callable[[Policy], None] = lambda policy: None,
    sharded: bool = False,
) -> Passes:
    """Runs a policy of this architecture on a micro-batch of fake tensors.

    Attention is the CPU's fused kernel, which keeps what those of GPUs keep.

    Args:
        dtype: of the weights in the passes.
        autocast: what the passes are autocast to, if they are.
        repeat_groups: whether attention repeats the heads of keys and values.
        prepare: what is done to the policy first.
        sharded: whether gradients of all but the decoder layers stay to the end, as in FSDP's root;
            otherwise no gradient counts.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=_REPEATED if repeat_groups else _GROUPED
        )
        policy = Policy(model).eval()
        prepare(policy)
    with preserved_random_states(), FakeTensorMode():
        _make_fake(policy)
        for module in policy.decoder_layers if sharded else [policy]:
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(_drop_gradient)
        lengths = [prompt_tokens + response_tokens] * sequences
        ids_S = torch.zeros(sum(lengths), dtype=torch.long)
        predictor_T = torch.zeros(sequences * response_tokens, dtype=torch.long)
        nothing_T = torch.zeros(len(predictor_T))
        tokens = Tokens(predictor_T, predictor_T, nothing_T, nothing_T)
        autocasting = torch.autocast("cpu", autocast) if autocast else nullcontext()
        live, peaks = LiveBytes(policy.parameters()), []

        def at_head(module, args, output) -> None:
            """The head's passes lie between those of the layers, forward and backward."""
            peaks.append(live.take_peak())
            output.last_hidden_state.register_hook(lambda grad: peaks.append(live.take_peak()))

        policy.model.base_model.register_forward_hook(at_head)
        with live:
            with autocasting:
                statistics = policy(
                    MicroBatch(ids_S, lengths, predictor_T, tokens, temperature=1.0)
                )
            kept = live.now
            statistics.logprobs_T.sum().backward()
        before, head, after = *peaks, live.take_peak()
    return Passes(kept, head, max(before, after), left=live.now)


@dataclass
class Step:
    """Bytes of the optimizer."""

    state: int
    """Kept from step to step."""
    peak: int
    """State and temporaries during a step."""


def measure_step(
    parameters: Iterable[nn.Parameter],
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    on_gpu: bool,
) -> Step:
    """Takes two steps on meta parameters, the second with the state of the first.

    Args:
        on_gpu: whether all parameters are stepped at once, as optimizers do on a GPU unless told.
    """
    parameters = [p for p in parameters if p.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    made = optimizer(parameters)
    for group in made.param_groups:
        if on_gpu and "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True
    with LiveBytes([*parameters, *(p.grad for p in parameters)]) as live:
        made.step()
        state = live.now
        live.take_peak()
        made.step()
    return Step(state, live.take_peak())


def _make_fake(policy: Policy) -> None:
    """Replaces meta tensors by the fake ones of a CPU, whose kernels are those of a real one."""
    fake: dict[Tensor, Tensor] = {}
    for module in policy.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and tensor not in fake:
                made = torch.empty(tensor.shape, dtype=tensor.dtype)
                is_parameter = isinstance(tensor, nn.Parameter)
                fake[tensor] = nn.Parameter(made, tensor.requires_grad) if is_parameter else made
            if tensor is not None:
                setattr(module, name, fake[tensor])


def _drop_gradient(parameter: nn.Parameter) -> None:
    parameter.grad = None
