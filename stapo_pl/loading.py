"""From a model folder or hub name to a tokenizer, a policy, or a stream of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from stapo_pl.errors import ConfigError
from stapo_pl.policy import Policy
from stapo_pl.types import MicroBatch, Tokens

# Largest difference allowed between our log-probabilities and those of the model's own logits; in
# half precision, this many roundings of the largest logit.
_TOLERANCE, _ROUNDINGS = 1e-3, 4


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


def load_config(path: str, key: str = "model.path") -> PreTrainedConfig:
    """The configuration of a model folder or hub name.

    Raises:
        ConfigError: there is none.
    """
    return _load(key, path, "model", AutoConfig.from_pretrained)


def load_policy(
    path: str, key: str = "model.path", prepare: Callable[[Policy], None] = lambda policy: None
) -> Policy:
    """The model of a folder or hub name, with fp32 weights, in evaluation mode.

    Args:
        key: the setting that names the model, for errors.
        prepare: what is done to it before it is checked.

    Raises:
        ConfigError: it cannot be loaded, or see `check`.
    """
    load = partial(AutoModelForCausalLM.from_pretrained, dtype=torch.float32)
    policy = Policy(_load(key, path, "model", load))
    prepare(policy)
    check(policy, f"{key}={path}", torch.device("cpu"))
    return policy


def empty_policy(path: str, key: str) -> Policy:
    """The model of a folder or hub name without its weights: fp32 parameters on the meta device.

    Its buffers are real.

    Raises:
        ConfigError: there is no such model, or it has buffers that are in its files.
    """
    config = load_config(path, key)
    with meta_parameters():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if stored := model.state_dict().keys() - parameters.keys():
        raise ConfigError(
            f"{key}={path}: {type(model).__name__} keeps buffers in its files ({min(stored)}), "
            "which are not streamed: train it without trainer=fsdp"
        )
    return Policy(model)


@contextmanager
def meta_parameters() -> Iterator[None]:
    """Modules that are made within it have parameters without memory."""

    def move(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return None  # keeps a tied parameter the one that it is
        return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    handle = register_module_parameter_registration_hook(move)
    try:
        yield
    finally:
        handle.remove()


class WeightFiles:
    """The safetensors files of a model folder or hub name, read one tensor at a time.

    Args:
        key: the setting that names the model, for errors.
        shapes: of the parameters that will be read, by all the names of each (tied ones have
            several).

    Raises:
        ConfigError: there are no such files, or they do not hold these parameters.
    """

    def __init__(self, path: str, key: str, shapes: dict[tuple[str, ...], torch.Size]) -> None:
        self._setting = f"{key}={path}"
        path = _local(path)
        find = partial(cached_file, path, _raise_exceptions_for_missing_entries=False)
        if index := find("model.safetensors.index.json"):
            names, _ = get_checkpoint_shard_files(path, index)
        else:
            names = [find("model.safetensors")]
        if names == [None]:
            raise self._refusal("there are no safetensors files; save it again as such")
        self._file: dict[str, Any] = {}
        for name in names:
            try:
                file = safe_open(name, "pt")
            except Exception as error:  # the file is other people's and may be broken in any way
                raise self._refusal(f"{name} cannot be read: {error}") from error
            self._file |= dict.fromkeys(file.keys(), file)
        for tied, shape in shapes.items():
            self._check(tied, shape)

    def read(self, tied: tuple[str, ...]) -> Tensor:
        """The parameter that has these names, as fp32."""
        name = next(name for name in tied if name in self._file)
        return self._file[name].get_tensor(name).float()

    def _check(self, tied: tuple[str, ...], shape: torch.Size) -> None:
        there = [name for name in tied if name in self._file]
        if not there:
            raise self._refusal(
                f"they hold no {tied[0]}; models that transformers converts as it loads them, such "
                "as mixtures of experts, cannot be streamed"
            )
        for name in there:
            found = self._file[name].get_slice(name).get_shape()
            if list(found) != list(shape):
                raise self._refusal(f"{name} has shape {list(found)}, not {list(shape)}")
        for name in there[1:]:
            if not torch.equal(self.read((name,)), self.read((there[0],))):
                raise self._refusal(f"{name} and {there[0]} are tied, but differ")

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError(f"{self._setting}: its weights cannot be streamed: {reason}")


@torch.no_grad()
def check(policy: Policy, setting: str, device: torch.device) -> None:
    """Compares the policy with the logits of its model.

    Args:
        setting: what chose the model, for errors.
        device: where it computes.

    Raises:
        ConfigError: they differ. The model caps or scales its logits, or one sequence sees another
            that it is packed with: our statistics would be silently wrong.
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


def _load(key: str, path: str, what: str, load: Callable[[str], Any]) -> Any:
    if not Path(_local(path)).exists() and (
        path.startswith((".", "/", "~")) or path.count("/") != 1
    ):
        raise ConfigError(
            f"{key}={path}: no such folder; give a model folder, or a hub name (owner/name)"
        )
    try:
        return load(_local(path))
    except Exception as error:  # the files are other people's and may be broken in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{key}={path}: no {what} could be loaded: {reason}") from error


def _local(path: str) -> str:
    """The folder, if it is one, else the hub name as it is."""
    folder = Path(path).expanduser()
    return str(folder) if folder.exists() else path
