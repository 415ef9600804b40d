"""Low-rank adapters (2106.09685): the weights are frozen and a few new parameters are trained."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import seed_for
from stapo_pl.policy.model import Policy, is_adapter


@dataclass
class LoRA:
    """Adapters on linear layers, made by peft.

    An adapter adds the product of two small matrices to the weight of its layer.

    Args:
        rank: the rank of this product.
        alpha: the product is multiplied by alpha / rank.
        dropout: the share of an adapter's inputs that is dropped in training.
        target_modules: the names of the layers that get an adapter, or a regular expression that
            matches their whole names. `all-linear` means all linear layers but the head. The
            embedding and the head cannot have adapters.

    Raises:
        ConfigError: a value is out of range.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        if not self.target_modules:
            raise ConfigError("model.lora.target_modules is empty: no layer would have an adapter")
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "model.lora needs rank >= 1, alpha > 0 and 0 <= dropout < 1, got "
                f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}"
            )

    def add_to(self, policy: Policy) -> None:
        """Freezes the policy and adds adapters, which change nothing until they are trained.

        From then on the policy's `state_dict` holds the adapters only.

        Raises:
            ConfigError: peft is not installed, no layer has a name that was given, or the name is
                that of the embedding or the head.
        """
        try:
            from peft import LoraConfig  # slow to import, and needed only here
        except ImportError as error:
            raise ConfigError('model.lora needs peft: pip install -e ".[lora]"') from error
        self._check_names(policy)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft says int and takes any number
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

    def _check_names(self, policy: Policy) -> None:
        """Refuses names that no layer has. peft ignores them if another name fits."""
        weights = [(n, getattr(m, "weight", None)) for n, m in policy.model.named_modules()]
        layers = [name for name, weight in weights if weight is not None and weight.ndim == 2]
        setting, targets = f"model.lora.target_modules={self.target_modules}", self.target_modules
        if isinstance(targets, str):
            if targets.lower() == "all-linear":
                return
            try:
                found = any(re.fullmatch(targets, layer) for layer in layers)
            except re.error as error:
                raise ConfigError(f"{setting}: no regular expression, {error}") from error
            unknown = [] if found else [targets]
            expected = f"a list of names, or a regular expression of whole ones like {layers[-1]}"
        else:
            unknown = [t for t in targets if not any(f".{n}".endswith(f".{t}") for n in layers)]
            expected = "the last part of a name is enough"
        if unknown:
            known = list(dict.fromkeys(layer.rpartition(".")[2] for layer in layers))
            near = [m for t in unknown for m in difflib.get_close_matches(t, known, n=1)]
            raise ConfigError(
                f"{setting}: no layer is called {', '.join(unknown)}"
                + (f"; did you mean {', '.join(near)}?" if near else f"; there are {known}")
                + f" ({expected})"
            )


def initial_adapter(name: str, shape: torch.Size) -> Tensor:
    """The first value of an adapter's parameter, the same on all ranks: A is uniform, B is 0."""
    if ".lora_B." in name:
        return torch.zeros(shape)
    generator = torch.Generator().manual_seed(seed_for(torch.initial_seed(), "adapter", name))
    bound = shape[1] ** -0.5
    # In fp32, so that the numbers are the same in any precision.
    uniform = torch.empty(shape, dtype=torch.float32)
    return uniform.uniform_(-bound, bound, generator=generator)


def check_dropout(lora: LoRA | None, dropout: bool) -> None:
    """Raises ConfigError if adapters have dropout, and updates use none."""
    if lora is not None and lora.dropout and not dropout:
        raise ConfigError(
            f"model.lora.dropout={lora.dropout} needs model.dropout=true: updates drop nothing "
            "otherwise, so that they see the policy that was sampled from and scored"
        )


@contextmanager
def adapters_off(policy: Policy) -> Iterator[None]:
    """A context manager: inside, the policy computes without its adapters."""
    policy.model.disable_adapters()
    try:
        yield
    finally:
        policy.model.enable_adapters()


def _keep_adapters(module, state_dict, prefix, local_metadata) -> None:
    """Removes from a policy's state dict what is no adapter."""
    for name in [key for key in state_dict if key.startswith(prefix) and not is_adapter(key)]:
        del state_dict[name]
