"""Counter-based randomness: every choice is a function of what it is for; nothing has a state."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from stapo_pl.core.errors import ConfigError

_LARGEST = 2**32 - 1  # that numpy takes


def check_seed(seed: int) -> None:
    """Raises ConfigError if a run's seed is none."""
    if not 0 <= seed <= _LARGEST:
        raise ConfigError(f"seed_everything={seed}: expected a whole number from 0 to {_LARGEST}")


def seed_for(*key: int | str) -> int:
    """A 56-bit seed from a key, such as (run seed, "rollout", prompt position, sample).

    A hash, never base + i: engines derive the seeds of their own children by adding to what they
    are given.
    """
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "big")


def reseed(*key: int | str) -> None:
    """Seeds the global generators of random, numpy and torch."""
    seed = seed_for(*key)
    random.seed(seed)
    np.random.seed(seed % (_LARGEST + 1))
    torch.manual_seed(seed)


@contextmanager
def preserved_random_states() -> Iterator[None]:
    """Leaves the global generators of random, numpy and torch as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
