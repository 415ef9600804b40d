"""The policy: a Hugging Face causal model that answers with token statistics, not logits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stapo_pl.errors import ConfigError
from stapo_pl.tensors import token_statistics
from stapo_pl.types import MicroBatch, TokenStatistics

# Largest difference allowed between log-probabilities from the hidden states and from the model's
# own logits.
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
        # Padding stands on the right, where causal attention never looks back at it: no mask is
        # needed.
        output = self.model.base_model(input_ids=batch.input_ids_BL, use_cache=False)
        head = self.model.get_output_embeddings()
        return token_statistics(
            output.last_hidden_state.flatten(0, 1)[batch.predictor_T],
            head.weight,
            batch.tokens.token_ids_T,
            bias_V=getattr(head, "bias", None),
            temperature=batch.temperature,
        )

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters by their Hugging Face names, one at a time."""
        for name, parameter in self.model.named_parameters():
            yield name, parameter.detach()


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name.

    Raises:
        ConfigError: there is none, or it has no pad or end-of-sequence token.
    """
    _check_exists(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.path={path}: no tokenizer could be loaded: {_first_line(error)}"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # Where tokenizer files are missing, transformers makes an empty tokenizer from the model's
        # type.
        raise ConfigError(f"model.path={path}: no tokenizer could be loaded: its files are missing")
    for name in ("pad_token", "eos_token"):
        if getattr(tokenizer, name) is None:
            raise ConfigError(
                f"model.path={path}: its tokenizer has no {name}; set one in tokenizer_config.json"
            )
    return tokenizer


def load_config(path: str):
    """The model's configuration.

    Raises:
        ConfigError: there is none.
    """
    _check_exists(path)
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.path={path}: no model could be loaded: {_first_line(error)}"
        ) from error


def load_policy(path: str) -> Policy:
    """The model of a folder or hub name, with fp32 weights.

    Raises:
        ConfigError: it cannot be loaded, or computes its logits otherwise than by a linear head.
    """
    load_config(path)
    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.path={path}: no model could be loaded: {_first_line(error)}"
        ) from error
    _check_head(model, path)
    return Policy(model)


@torch.no_grad()
def _check_head(model: PreTrainedModel, path: str) -> None:
    """Refuses a model that caps or scales its logits: our statistics would be silently wrong."""
    model.eval()
    ids = torch.arange(8)[None] % model.config.get_text_config().vocab_size
    expected = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    head = model.get_output_embeddings()
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    ours = nn.functional.linear(hidden, head.weight, getattr(head, "bias", None)).log_softmax(-1)
    gap = (expected - ours).abs().max().item()
    if not gap <= _HEAD_TOLERANCE:
        raise ConfigError(
            f"model.path={path}: {type(model).__name__} does not compute logits as head(hidden) "
            f"(log-probabilities differ by {gap:.3g}); only plain linear heads are supported"
        )


def _check_exists(path: str) -> None:
    looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
    if not Path(path).exists() and looks_local:
        raise ConfigError(
            f"model.path={path}: no such folder; give a model folder or the name of a hub model"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
