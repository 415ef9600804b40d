"""A model that is only sampled from and not trained: its files, and a sampler with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Completion, Decoding, Ended, Request
from stapo_pl.policy.endings import end_tokens
from stapo_pl.policy.loading import load_config, load_tokenizer, loaded, local_path
from stapo_pl.policy.streaming import meta_parameters
from stapo_pl.samplers import Room, Sampler


class SampledModel:
    """A model and its sampler. The sampler is built at the first call of `generate`.

    Args:
        path: the model folder or hub name.
        key: the setting that names the model, for errors.
        engine: the sampler.
        device: the device that the sampler runs on.
        max_new_tokens: the largest number of tokens of a response. Prompts may use the other
            positions of the model.
        limit: the setting that gives `max_new_tokens`, for errors.
        stop_token_ids: tokens that end a response, in addition to those that the model's files
            name.

    Raises:
        ConfigError: there is no such model or tokenizer, or the model has too few positions.
    """

    def __init__(
        self,
        path: str,
        key: str,
        engine: Sampler,
        device: torch.device,
        max_new_tokens: int,
        limit: str,
        stop_token_ids: Sequence[int] = (),
    ) -> None:
        self.path, self.key, self.engine, self.device = path, key, engine, device
        self.config, self.tokenizer = load_config(path, key), load_tokenizer(path, key)
        self.end_tokens = end_tokens(path, self.tokenizer, self.config, stop_token_ids, key)
        positions = self.config.get_text_config().max_position_embeddings
        if max_new_tokens >= positions:
            raise ConfigError(
                f"{limit}={max_new_tokens} leaves no room for a prompt: {key}={path} has "
                f"{positions} positions"
            )
        self.max_prompt_tokens = positions - max_new_tokens
        self.max_new_tokens = max_new_tokens
        self.longest_prompt = 0
        """The number of tokens of the longest prompt. Set it before the first call of `generate`,
        because the sampler reserves memory for it."""
        self._is_built = False

    @property
    def about(self) -> dict[str, Any]:
        """Everything that the completions depend on, except the prompts and the decoding."""
        return {
            "model": self.path,
            "files of the model": self._fingerprint(),
            "sampler": type(self.engine).__name__,
            "type of the sampler's weights": getattr(self.engine, "dtype", None),
            "max_new_tokens": self.max_new_tokens,
            "end tokens": list(self.end_tokens.ids),
        }

    def _fingerprint(self) -> str:
        """Returns a text that changes if the files of the model do.

        For a model folder it lists sizes and times of the files. For a hub name it is the revision.
        """
        folder = Path(local_path(self.path))
        if folder.is_dir():
            files = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", ".json"))
            return " ".join(f"{f.name}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files)
        return f"{self.path}@{self.config._commit_hash}"

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        ended: Ended,
    ) -> list[Completion]:
        """Returns one completion for each request.

        The first call builds the sampler and loads the weights.

        Raises:
            ConfigError: the sampler or the weights cannot be loaded.
        """
        if not self._is_built:
            max_tokens = self.longest_prompt + self.max_new_tokens
            room = Room.of_idle(self.device)
            self.engine.build(self.config, self.end_tokens.ids, self.device, max_tokens, room)
            self._is_built = True
            model = loaded(
                self.key,
                self.path,
                "model",
                lambda path: AutoModelForCausalLM.from_pretrained(path, dtype="auto"),
            )
            self.engine.load_weights((n, p.detach()) for n, p in model.named_parameters())
        return self.engine.generate(requests, decoding, ended)

    def close(self) -> None:
        """Closes the sampler, if it was built."""
        if self._is_built:
            self.engine.close()


def count_parameters(config: PreTrainedConfig) -> int:
    """Returns the number of parameters of a model, without allocating memory for them."""
    with meta_parameters():
        return AutoModelForCausalLM.from_config(config).num_parameters()
