"""What a sampler does. Each engine is a subclass; it imports heavy packages when it is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from stapo_pl.core.types import Completion, Decoding, Ended, Request


@dataclass
class Room:
    """The memory of a device, and how much of it others need than a sampler; in bytes."""

    device: int | None = None
    """The memory of the whole device; None if it is not known."""
    others: int = 0
    """The memory that others hold while the sampler samples."""
    others_at_peak: int = 0
    """The most that others hold at any time, which is while the policy is updated."""

    @classmethod
    def of_idle(cls, device: torch.device) -> Room:
        """The room on a device that this process uses for nothing but a sampler."""
        if device.type != "cuda":
            return cls()
        free, total = torch.cuda.mem_get_info(device)
        return cls(total, total - free, total - free)


@dataclass
class SamplerShare:
    """How much of a device's memory a sampler takes, in bytes."""

    awake: int
    """The bytes that it takes while it samples."""
    asleep: int
    """The bytes that it takes while the policy is updated."""
    note: str
    """What these bytes hold, in a few words."""


class Sampler(ABC):
    """An inference engine with its own copy of the policy's weights.

    The caller sends the weights with `load_weights` before it samples, whenever they have changed.
    """

    def missing(self) -> str | None:
        """Names the package that it needs and that is not installed, and says how to install it.

        Returns:
            None if it can be built.
        """
        return None

    @abstractmethod
    def build(
        self,
        config: PreTrainedConfig,
        end_token_ids: Sequence[int],
        device: torch.device,
        max_tokens: int,
        room: Room,
    ) -> None:
        """Makes the engine. It must not change the global random states.

        Args:
            config: the Hugging Face configuration of the model.
            end_token_ids: a response ends with the first of these tokens, and with no other.
            device: the device on which this rank computes.
            max_tokens: tokens of the longest prompt and the longest response together.
            room: the memory that the device has for it.

        Raises:
            ConfigError: the engine cannot be made with these settings.
        """

    @abstractmethod
    def share(
        self,
        config: PreTrainedConfig,
        device: torch.device,
        max_tokens: int,
        room: Room,
    ) -> SamplerShare:
        """How much memory it will take. This builds nothing, and `device` need not exist."""

    @abstractmethod
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Takes over the policy's parameters, one (Hugging Face name, full tensor) after another.

        Raises:
            TrainingError: afterwards it holds other weights than it was sent.
        """

    @abstractmethod
    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        ended: Ended,
    ) -> list[Completion]:
        """Samples. It must not change the global random states.

        Args:
            requests: the prompts, each with the seed of its completion.
            decoding: the distribution that tokens are drawn from.
            ended: it is called now and then with completions that have ended, so that they can be
                judged while others are still being sampled. It need not be told all of them.

        Returns:
            One completion for each request, in the order of the requests.

        Raises:
            TrainingError: the engine died.
        """

    def sleep(self) -> bool:
        """Frees what it can while it is not used. Most engines have nothing to free.

        Returns:
            Whether it may have freed its weights. If so, the caller must call `load_weights` before
            it samples again.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Frees the engine."""
