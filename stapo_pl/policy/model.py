"""The policy: a Hugging Face causal model that returns token statistics instead of logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from stapo_pl.core.batches import MicroBatch, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.attention import PACKED, PADDED, padded_places
from stapo_pl.policy.statistics import RareTokens, token_statistics


def shipped_policy() -> Path:
    """The model folder of the small policy that comes with the package."""
    return Path(__file__).parents[1] / "assets" / "arithmetic"


class Policy(nn.Module):
    """Wraps a causal language model.

    Every parameter is used in `forward`, as DDP and FSDP require.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.checkpoints_gradients = False
        self.chunk_tokens: int | None = None
        """The tokens of a block of the head; None takes `statistics.largest_chunk`."""
        self.watch: RareTokens | None = None
        """What looks for rare tokens in passes with gradient."""
        self._own_attention = model.config._attn_implementation
        if self._own_attention == "sdpa" and model._supports_attention_backend:
            model.set_attn_implementation(PADDED)

    def forward(self, batch: MicroBatch, has_gradient_T: Tensor | None = None) -> TokenStatistics:
        """The statistics [T] of a micro-batch's response tokens.

        Args:
            batch: the micro-batch.
            has_gradient_T: the tokens whose statistics the loss has a gradient through. None stands
                for all of them.
        """
        device = batch.input_ids_S.device
        longest = max(batch.lengths)
        ends = torch.tensor([0, *batch.lengths], dtype=torch.int32, device=device)
        ends = ends.cumsum(0, dtype=torch.int32)
        places_S = padded_places(ends, longest, len(batch.input_ids_S))
        if self.model.config._attn_implementation == PACKED:
            output = self.model.base_model(
                input_ids=batch.input_ids_S[None],
                position_ids=(places_S % longest)[None],
                use_cache=False,
                cu_seq_lens_q=ends,
                max_length_q=longest,
            )
            rows_T = batch.predictor_T
        else:
            # Padding is on the right, where causal attention never looks. So no mask is needed.
            ids = batch.input_ids_S.new_zeros(len(batch.lengths) * longest)
            ids[places_S] = batch.input_ids_S
            output = self.model.base_model(input_ids=ids.view(-1, longest), use_cache=False)
            rows_T = places_S[batch.predictor_T]
        head = self.model.get_output_embeddings()
        return token_statistics(
            output.last_hidden_state.flatten(0, 1)[rows_T],
            head.weight,
            batch.tokens.token_ids_T,
            bias_V=getattr(head, "bias", None),
            temperature=batch.temperature,
            chunk_tokens=self.chunk_tokens,
            has_gradient_T=has_gradient_T,
            watch=self.watch if torch.is_grad_enabled() else None,
        )

    def own_logits(self, ids_L: Tensor) -> Tensor:
        """The logits [L, V] of one sequence as the model computes them, by its own attention."""
        attention = self.model.config._attn_implementation
        self.model.set_attn_implementation(self._own_attention)
        logits = self.model(input_ids=ids_L[None], use_cache=False).logits[0]
        self.model.set_attn_implementation(attention)
        return logits

    def pack(self) -> None:
        """Makes `forward` lay sequences end to end instead of padding them."""
        self.model.set_attn_implementation(PACKED)

    def checkpoint_gradients(self) -> None:
        """Makes decoder layers keep only their inputs for the backward pass.

        transformers can do so too, but only in training mode, in which models apply dropout.

        Raises:
            ConfigError: transformers could not do it for any layer of the model.
        """
        layers = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if not layers:
            raise ConfigError(
                f"model.gradient_checkpointing: {type(self.model).__name__} has no layers for it"
            )
        for layer in layers:
            layer.forward = _checkpointed(layer.forward)
        self.checkpoints_gradients = True

    def compile_layers(self) -> None:
        """Compiles the decoder layers for all lengths. Call it before `checkpoint_gradients`."""
        for layer in self.decoder_layers:
            layer.forward = torch.compile(layer.forward, dynamic=True)

    @property
    def decoder_layers(self) -> list[nn.Module]:
        """The decoder layers: transformers' models name the modules that devices must not split."""
        names = set(self.model._no_split_modules or ())
        return [module for module in self.model.modules() if type(module).__name__ in names]

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters, one (Hugging Face name, full tensor) at a time.

        Adapters are merged into the weights. The parameters of a sharded policy are gathered, so
        all ranks must iterate to the end.
        """
        adapted = {
            f"{name}.base_layer.weight": module
            for name, module in self.model.named_modules()
            if hasattr(module, "get_delta_weight")
        }
        for name, parameter in self.model.named_parameters():
            if not is_adapter(name):
                weight = _full(parameter.detach())
                if name in adapted:
                    weight = weight + _full(adapted[name].get_delta_weight("default").detach())
                yield name.replace(".base_layer.", "."), weight


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to a low-rank adapter."""
    return ".lora_" in name


def _checkpointed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wraps `forward` so that its activations are computed again in the backward pass."""

    def run(*args, **kwargs) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
