"""Makes a policy without weights, and reads weights from files one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import AutoModelForCausalLM
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import load_config, local_path
from stapo_pl.policy.model import Policy


def empty_policy(path: str, key: str) -> Policy:
    """The policy of a model folder or hub name without weights.

    Its parameters are fp32 and on the meta device. Its buffers have real data.

    Args:
        path: the model folder or hub name.
        key: the setting that names it, for errors.

    Raises:
        ConfigError: there is no such model, or its files hold buffers.
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
    """A context manager: modules that are made inside have parameters on the meta device."""

    def move(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return None  # the parameter stays as it is; if it is tied, it stays tied
        return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    # torch says that the hook returns None, but it takes a parameter too.
    handle = register_module_parameter_registration_hook(move)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


class WeightFiles:
    """The safetensors files of a model folder or hub name, read one tensor at a time.

    Args:
        path: the model folder or hub name.
        key: the setting that names it, for errors.
        shapes: the shapes of the parameters that will be read. The key is the tuple of all names
            of a parameter; a tied parameter has several.

    Raises:
        ConfigError: there are no such files, or they do not hold these parameters.
    """

    def __init__(self, path: str, key: str, shapes: dict[tuple[str, ...], torch.Size]) -> None:
        self._setting = f"{key}={path}"
        path = local_path(path)
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
            except Exception as error:  # a broken file may raise anything
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
