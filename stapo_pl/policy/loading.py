"""Loads the tokenizer, the configuration or the policy of a model folder or hub name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from stapo_pl.core.batches import MicroBatch, Tokens
from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.model import Policy

# The largest difference that is allowed between our log-probabilities and those of the model's own
# logits. In half precision, this many roundings of the largest logit are allowed.
_TOLERANCE, _ROUNDINGS = 1e-3, 4


def load_tokenizer(path: str, key: str = "model.path") -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name.

    Raises:
        ConfigError: there is no tokenizer, or it has no pad or end-of-sequence token.
    """
    tokenizer = loaded(key, path, "tokenizer", AutoTokenizer.from_pretrained)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # If its files are missing, transformers makes an empty one by the type of the model.
        raise ConfigError(f"{key}={path}: no tokenizer could be loaded: its files are missing")
    for name in ("pad_token", "eos_token"):
        if getattr(tokenizer, name) is None:
            raise ConfigError(
                f"{key}={path}: its tokenizer has no {name}; set one in tokenizer_config.json"
            )
    return tokenizer


def load_config(path: str, key: str = "model.path") -> PreTrainedConfig:
    """The Hugging Face configuration of a model folder or hub name.

    Raises:
        ConfigError: there is no such model.
    """
    return loaded(key, path, "model", AutoConfig.from_pretrained)


def load_policy(
    path: str, key: str = "model.path", prepare: Callable[[Policy], None] = lambda policy: None
) -> Policy:
    """The policy of a model folder or hub name, with fp32 weights, in evaluation mode.

    Args:
        path: the model folder or hub name.
        key: the setting that names it, for errors.
        prepare: a function that is applied to the policy before it is checked.

    Raises:
        ConfigError: it cannot be loaded, or it fails `check`.
    """
    load = partial(AutoModelForCausalLM.from_pretrained, dtype=torch.float32)
    policy = Policy(loaded(key, path, "model", load))
    prepare(policy)
    check(policy, f"{key}={path}", torch.device("cpu"))
    return policy


@torch.no_grad()
def check(policy: Policy, setting: str, device: torch.device) -> None:
    """Checks the policy's log-probabilities against the logits of its model.

    Args:
        policy: the policy.
        setting: the setting that names the model, for errors.
        device: the device on which it computes.

    Raises:
        ConfigError: they differ, so that our statistics would be wrong. This happens if the model
            caps or scales its logits, or if a sequence sees another one that it is packed with.
    """
    vocabulary = policy.model.config.get_text_config().vocab_size
    sequences = [torch.arange(n, device=device) % vocabulary for n in (8, 5)]
    targets = torch.cat([ids[1:] for ids in sequences])
    logits = torch.cat([policy.own_logits(ids)[:-1] for ids in sequences])
    expected = logits.log_softmax(-1, dtype=torch.float32).gather(-1, targets[:, None])[:, 0]
    places = torch.tensor([*range(7), *range(8, 12)], device=device)
    tokens = Tokens(targets, torch.zeros_like(targets), expected, expected)
    batch = MicroBatch(torch.cat(sequences), [8, 5], places, tokens, temperature=1.0)
    gap = (policy(batch).logprobs_T - expected).abs().max().item()
    rounding = torch.finfo(logits.dtype).eps * logits.abs().max().item()
    if not gap <= max(_TOLERANCE, _ROUNDINGS * rounding):
        raise ConfigError(
            f"{setting}: {type(policy.model).__name__} does not compute logits as head(hidden "
            f"states) of each sequence by itself, log-probabilities differ by {gap:.3g}; only "
            "plain linear heads are supported, and with model.packing only plain attention"
        )


def check_vocabulary(config: PreTrainedConfig, path: str, key: str) -> None:
    """Checks that the model at `path` knows as many tokens as the policy.

    Args:
        config: of the policy.
        path: model folder or hub name.
        key: the setting that names it, for errors.

    Raises:
        ConfigError: it does not.
    """
    own, other = (c.get_text_config().vocab_size for c in (config, load_config(path, key)))
    if own != other:
        raise ConfigError(
            f"{key}={path}: its vocabulary has {other} tokens, that of the policy {own}"
        )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, path: str, key: str) -> None:
    """Checks that the model at `path` means the same tokens by the same numbers.

    Args:
        tokenizer: of the policy.
        path: model folder or hub name.
        key: the setting that names it, for errors.

    Raises:
        ConfigError: a token differs.
    """
    own, other = tokenizer.get_vocab(), load_tokenizer(path, key).get_vocab()
    differs = sorted(
        (number, token)
        for vocabulary, opposite in ((own, other), (other, own))
        for token, number in vocabulary.items()
        if opposite.get(token) != number
    )
    if differs:
        number, token = differs[0]
        raise ConfigError(
            f"{key}={path}: its tokenizer is not that of the policy: {len(differs)} entries "
            f"differ, the first is {token!r} as token {number}"
        )


def loaded(key: str, path: str, what: str, load: Callable[[str], Any]) -> Any:
    """Calls `load` with a model folder or hub name and returns the result.

    Args:
        key: the setting that names the model, for errors.
        path: the model folder or hub name.
        what: names what is loaded, for errors.
        load: loads it.

    Raises:
        ConfigError: there is no such folder, or `load` failed.
    """
    if not Path(local_path(path)).exists() and (
        path.startswith((".", "/", "~")) or path.count("/") != 1
    ):
        raise ConfigError(
            f"{key}={path}: no such folder; give a model folder, or a hub name (owner/name)"
        )
    local = Path(local_path(path))
    if local.is_file() or (local / "meta.pt").exists() or (local / "checkpoints").is_dir():
        raise ConfigError(
            f"{key}={path}: expected a model folder; of a checkpoint or the folder of a run, "
            f"`stapo export {path} OUT` makes one"
        )
    try:
        return load(str(local) if local.exists() else path)
    except Exception as error:  # broken files may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{key}={path}: no {what} could be loaded: {reason}") from error


def local_path(path: str) -> str:
    """The path of the folder, if there is one; else the hub name, unchanged."""
    folder = Path(path).expanduser()
    return str(folder) if folder.exists() else path
