"""Random numbers without a state: the seed of every choice is computed from what it is for.

A resumed run therefore makes the same choices as one that never stopped, and the choices do not
depend on the number of ranks.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from stapo_pl.core.errors import ConfigError

_LARGEST = 2**32 - 1  # numpy accepts no larger seed


def check_seed(seed: int) -> None:
    """Raises ConfigError if a run cannot use the seed."""
    if not 0 <= seed <= _LARGEST:
        raise ConfigError(f"seed_everything={seed}: expected a whole number from 0 to {_LARGEST}")


def seed_for(*key: int | str) -> int:
    """Returns a 56-bit seed for a key, such as (run seed, "rollout", prompt position, sample).

    The seed is a hash of the key and never `base + i`: some engines add small numbers to the seed
    that they are given, and then two requests would share their random numbers.
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
    """Restores the global generators of random, numpy and torch when the block ends."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
