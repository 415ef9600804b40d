"""Decides which tokens end a response, for sampling, training, evaluation and export alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import loaded


@dataclass(frozen=True)
class EndTokens:
    """A response ends with the first of these tokens, which belongs to the response.

    Example:
        >>> str(EndTokens((504, 508), ("<|end|>", "<|endoftext|>")))
        '<|end|> (504), <|endoftext|> (508)'
    """

    ids: tuple[int, ...]
    """The tokens in ascending order, at least one. Each has a row in the model's embedding."""
    names: tuple[str, ...]
    """The name of each token in the tokenizer."""
    unknown: tuple[int, ...] = ()
    """Tokens that the model's files name too, but that have no embedding and are never written."""

    def __str__(self) -> str:
        named = ", ".join(f"{name} ({i})" for i, name in zip(self.ids, self.names, strict=True))
        left_out = f"; never written, without embedding: {', '.join(map(str, self.unknown))}"
        return named + left_out * bool(self.unknown)


def end_tokens(
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    more: Sequence[int] = (),
    key: str = "model.path",
) -> EndTokens:
    """The end tokens that a model's tokenizer and its generation_config.json name, and `more`.

    In some models a chat ends with another token than a document (Gemma 3, Phi 3.5, Llama 3,
    GLM 4). They name it in generation_config.json. If that names none, config.json counts.

    Args:
        path: folder or hub name of the model.
        tokenizer: its tokenizer.
        config: its Hugging Face configuration.
        more: the setting `data.stop_token_ids`.
        key: the setting that names the model, for errors.

    Raises:
        ConfigError: one of `more` is no token of the model, or no end token has an embedding.
    """
    vocabulary = config.get_text_config().vocab_size
    for token in more:
        if not 0 <= token < vocabulary:
            raise ConfigError(
                f"data.stop_token_ids: {token} is no token of the model, whose vocab_size is "
                f"{vocabulary}"
            )
    own = _listed(config.eos_token_id) or _listed(config.get_text_config().eos_token_id)
    named = _listed(loaded(key, path, "generation_config.json", _generation_config)) or own
    found = sorted({*_listed(tokenizer.eos_token_id), *named, *more})
    ids = tuple(token for token in found if 0 <= token < vocabulary)
    if not ids:
        raise ConfigError(
            f"{key}={path}: the model has no embedding for its end tokens {found}, its vocab_size "
            f"is {vocabulary}: name those that end a response in data.stop_token_ids"
        )
    names = (str(tokenizer.convert_ids_to_tokens(token)) for token in ids)
    return EndTokens(ids, tuple(names), tuple(token for token in found if token not in ids))


def _generation_config(path: str) -> Any:
    """The end tokens that generation_config.json names; None if there is no such file."""
    file = cached_file(
        path,
        "generation_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,  # the model may be used without a network
    )
    return file and json.loads(Path(file).read_text()).get("eos_token_id")


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    """The ids as a list. A file may hold one number, a list or nothing."""
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
