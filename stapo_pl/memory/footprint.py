"""Measures what training allocates, by running it on tensors that have shapes but no data.

PyTorch has two kinds of such tensors: meta tensors, and fake tensors, which also know a device.
"""

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
from stapo_pl.policy.statistics import largest_chunk

# A policy runs without an attention mask. For fake tensors, however, transformers makes a mask of
# L x L numbers, unless it knows no mask for the name of the attention. So here are such names.
_GROUPED, _REPEATED = "sdpa_without_mask", "repeated_without_mask"
AttentionInterface.register(_GROUPED, sdpa_attention_forward)
AttentionInterface.register(_REPEATED, repeated_attention)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes that operations have allocated and that some tensor still holds.

    Args:
        known: tensors that are not counted; views of them are not counted either.
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
        """The largest number of bytes at any time since the last call."""
        peak, self._peak = self._peak, self.now
        return peak

    def _free(self, size: int) -> None:
        self.now -= size


@dataclass
class Passes:
    """Bytes that a forward and a backward pass take, besides the weights."""

    kept: int
    """Bytes that the forward pass keeps for the backward pass: the activations."""
    head: int
    """The largest number of bytes while the head computes, forward or backward."""
    layers: int
    """The largest number of bytes while the decoder layers compute."""
    left: int
    """Bytes that are left at the end: the gradients that are counted."""


def measure_passes(
    config: PreTrainedConfig,
    *,
    sequences: int,
    prompt_tokens: int,
    response_tokens: int,
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
    repeat_groups: bool = False,
    on_gpu: bool = False,
    prepare: Callable[[Policy], None] = lambda policy: None,
    sharded: bool = False,
) -> Passes:
    """Runs a policy of this architecture on a micro-batch of fake tensors.

    Attention runs the CPU's fused kernel. It keeps the same tensors as the kernels of GPUs.

    Args:
        config: the Hugging Face configuration of the model.
        sequences: number of sequences in the micro-batch.
        prompt_tokens: tokens of each prompt.
        response_tokens: tokens of each response.
        dtype: type of the weights in the passes.
        autocast: the type that the passes are autocast to; None if they are not.
        repeat_groups: whether attention repeats the heads of keys and values.
        on_gpu: whether the passes are to run on a GPU, where the blocks of the head are larger.
        prepare: a function that is applied to the policy first.
        sharded: whether the gradients of everything but the decoder layers are counted and kept
            until the end, as FSDP does for its root. Otherwise no gradient is counted.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=_REPEATED if repeat_groups else _GROUPED
        )
        policy = Policy(model).eval()
        policy.chunk_tokens = largest_chunk(len(model.get_output_embeddings().weight), on_gpu)
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
            """Separates the peaks: the head computes between the layers, forward and backward."""
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
    """Bytes that the optimizer takes."""

    state: int
    """Bytes that it keeps from step to step."""
    peak: int
    """The largest number of bytes during a step: its state and what it computes."""


def measure_step(
    parameters: Iterable[nn.Parameter],
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    on_gpu: bool,
) -> Step:
    """Takes two steps on meta parameters; the second step has the state of the first.

    Args:
        parameters: the parameters; those that need no gradient are left out.
        optimizer: makes an optimizer of parameters.
        on_gpu: whether a step updates all parameters at once. Optimizers do so on a GPU, unless
            their settings say otherwise.
    """
    parameters = [p for p in parameters if p.requires_grad]
    gradients = [torch.zeros_like(parameter) for parameter in parameters]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    made = optimizer(parameters)
    for group in made.param_groups:
        if on_gpu and "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True
    with LiveBytes([*parameters, *gradients]) as live:
        made.step()
        state = live.now
        live.take_peak()
        made.step()
    return Step(state, live.take_peak())


def _make_fake(policy: Policy) -> None:
    """Replaces meta tensors by fake ones on a CPU, which run through the kernels of a real CPU."""
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
