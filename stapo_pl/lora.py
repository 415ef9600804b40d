"""Low-rank adapters: a small share of parameters is trained, the base is frozen (2106.09685)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.errors import ConfigError
from stapo_pl.policy import Policy, is_adapter
from stapo_pl.seeding import seed_for


@dataclass
class LoRA:
    """Adapters on linear layers, by peft.

    Args:
        rank: of the update of a weight.
        alpha: the update is scaled by alpha / rank.
        dropout: share of an adapter's inputs that is dropped in training.
        target_modules: names of the layers that get one, not the embedding nor the head;
            `all-linear` is all others.

    Raises:
        ConfigError: a value out of range.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "model.lora needs rank >= 1, alpha > 0 and 0 <= dropout < 1, got "
                f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}"
            )

    def add_to(self, policy: Policy) -> None:
        """Freezes the policy and puts adapters into it that change nothing yet.

        The policy's `state_dict` is then that of the adapters alone.

        Raises:
            ConfigError: peft is not installed, no layer has such a name, or the embedding or the
                head does.
        """
        try:
            from peft import LoraConfig  # heavy, and only needed here
        except ImportError as error:
            raise ConfigError('model.lora needs peft: pip install -e ".[lora]"') from error
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
        )
        try:
            policy.model.add_adapter(config)
        except ValueError as error:
            raise ConfigError(
                f"model.lora.target_modules={self.target_modules}: {error}"
            ) from error
        ends = (policy.model.get_input_embeddings(), policy.model.get_output_embeddings())
        if any(hasattr(module, "get_delta_weight") for module in ends):
            raise ConfigError(
                f"model.lora.target_modules={self.target_modules}: the embedding and the head "
                "cannot have adapters"
            )
        policy.register_state_dict_post_hook(_keep_adapters)
        for name, parameter in policy.model.named_parameters():
            if is_adapter(name) and not parameter.is_meta:
                parameter.data.copy_(initial_adapter(name, parameter.shape))


def initial_adapter(name: str, shape: torch.Size) -> Tensor:
    """What an adapter's parameter starts with, the same on all ranks: A is uniform, B is 0."""
    if ".lora_B." in name:
        return torch.zeros(shape)
    generator = torch.Generator().manual_seed(seed_for(torch.initial_seed(), "adapter", name))
    bound = shape[1] ** -0.5
    uniform = torch.empty(shape, dtype=torch.float32)  # the same numbers in any precision
    return uniform.uniform_(-bound, bound, generator=generator)


@contextmanager
def adapters_off(policy: Policy) -> Iterator[None]:
    """Within it the policy is its base."""
    policy.model.disable_adapters()
    try:
        yield
    finally:
        policy.model.enable_adapters()


def _keep_adapters(module, state_dict, prefix, local_metadata) -> None:
    for name in [key for key in state_dict if key.startswith(prefix) and not is_adapter(key)]:
        del state_dict[name]
