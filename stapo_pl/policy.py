"""The policy: a Hugging Face causal model that answers with token statistics, not logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stapo_pl.errors import ConfigError
from stapo_pl.tensors import token_statistics
from stapo_pl.types import MicroBatch, TokenStatistics

# Largest difference allowed between our log-probabilities and those of the model's logits.
_HEAD_TOLERANCE = 1e-3


def shipped_policy() -> Path:
    """The folder of the small starting policy that comes with the package."""
    return Path(__file__).parent / "assets" / "arithmetic"


class Policy(nn.Module):
    """Wraps a causal language model; all of its parameters are used in one `forward`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MicroBatch) -> TokenStatistics:
        # Padding stands on the right, where causal attention never looks: no mask is needed.
        output = self.model.base_model(input_ids=batch.input_ids_BL, use_cache=False)
        head = self.model.get_output_embeddings()
        return token_statistics(
            output.last_hidden_state.flatten(0, 1)[batch.predictor_T],
            head.weight,
            batch.tokens.token_ids_T,
            bias_V=getattr(head, "bias", None),
            temperature=batch.temperature,
        )

    def checkpoint_gradients(self) -> None:
        """Keeps only the inputs of decoder layers for the backward pass."""
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters by their Hugging Face names, one at a time.

        Of a sharded policy, they are gathered: all ranks must take all of them.
        """
        for name, parameter in self.model.named_parameters():
            parameter = parameter.detach()
            yield name, parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name.

    Raises:
        ConfigError: there is none, or it has no pad or end-of-sequence token.
    """
    tokenizer = _load("model.path", path, "tokenizer", AutoTokenizer.from_pretrained)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # Where its files are missing, transformers makes an empty one from the model's type.
        raise ConfigError(f"model.path={path}: no tokenizer could be loaded: its files are missing")
    for name in ("pad_token", "eos_token"):
        if getattr(tokenizer, name) is None:
            raise ConfigError(
                f"model.path={path}: its tokenizer has no {name}; set one in tokenizer_config.json"
            )
    return tokenizer


def load_config(path: str) -> PreTrainedConfig:
    """The configuration of a model folder or hub name.

    Raises:
        ConfigError: there is none.
    """
    return _load("model.path", path, "model", AutoConfig.from_pretrained)


def load_policy(path: str, key: str = "model.path") -> Policy:
    """The model of a folder or hub name, with fp32 weights, in evaluation mode.

    Args:
        key: the setting that names the model, for errors.

    Raises:
        ConfigError: it cannot be loaded, or computes its logits otherwise than by a linear head.
    """
    load = partial(AutoModelForCausalLM.from_pretrained, dtype=torch.float32)
    model = _load(key, path, "model", load)
    _check_head(model, f"{key}={path}")
    return Policy(model)


def _load(key: str, path: str, what: str, load: Callable[[str], Any]) -> Any:
    local = Path(path).expanduser()
    if not local.exists() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise ConfigError(
            f"{key}={path}: no such folder; give a model folder, or a hub name (owner/name)"
        )
    try:
        return load(str(local) if local.exists() else path)
    except Exception as error:  # the files are other people's and may be broken in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{key}={path}: no {what} could be loaded: {reason}") from error


@torch.no_grad()
def _check_head(model: PreTrainedModel, setting: str) -> None:
    """Refuses a model that caps or scales its logits: our statistics would be silently wrong."""
    ids = torch.arange(8)[None] % model.config.get_text_config().vocab_size
    expected = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    head = model.get_output_embeddings()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    ours = nn.functional.linear(hidden, head.weight, getattr(head, "bias", None)).log_softmax(-1)
    gap = (expected - ours).abs().max().item()
    if not gap <= _HEAD_TOLERANCE:
        raise ConfigError(
            f"{setting}: {type(model).__name__} does not compute logits as head(hidden states), "
            f"log-probabilities differ by {gap:.3g}; only plain linear heads are supported"
        )
