"""What a sampler does. One file an engine; heavy imports stay inside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from stapo_pl.core.types import Completion, Decoding, Request


@dataclass
class Room:
    """What there is of a device's memory, and what it is needed for besides a sampler, in bytes."""

    device: int | None = None
    """All of it; None if it is not known."""
    others: int = 0
    """What else is held while the sampler samples."""
    others_at_peak: int = 0
    """What else is held at the most, while the policy is updated."""

    @classmethod
    def of_idle(cls, device: torch.device) -> Room:
        """Of a device that nothing else of this process will use."""
        if device.type != "cuda":
            return cls()
        free, total = torch.cuda.mem_get_info(device)
        return cls(total, total - free, total - free)


@dataclass
class SamplerShare:
    """What a sampler takes of a device's memory, in bytes."""

    awake: int
    """While it samples."""
    asleep: int
    """While the policy is updated."""
    note: str
    """What it consists of."""


class Sampler(ABC):
    """An inference engine with weights of its own, which are brought in step before it is used."""

    def missing(self) -> str | None:
        """What it needs that is not installed here, and how to get it; None if it can be built."""
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
        """Makes the engine. Must leave the global random states as they were.

        Args:
            config: the Hugging Face configuration of the model.
            end_token_ids: a response ends with the first of them, and with no other token.
            device: where this rank computes.
            max_tokens: of the longest prompt and the longest response together.
            room: what the device has for it.

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
        """What it will take, without building it; `device` need not be there."""

    @abstractmethod
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Takes over the policy's parameters, streamed as (Hugging Face name, full tensor)."""

    @abstractmethod
    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        progress: Callable[[int, int], None],
    ) -> list[Completion]:
        """One completion a request, in order.

        Must leave the global random states as they were.

        Args:
            progress: called with (requests done, requests in all) now and then.

        Raises:
            TrainingError: the engine died.
        """

    def sleep(self) -> bool:
        """Frees what it can while it is not used; most engines have nothing to free.

        Returns:
            Whether the weights may be gone: then `load_weights` must come before the next use.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Frees the engine."""
