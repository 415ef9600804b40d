"""Context managers that undo, or prevent, what vLLM does to the process that it runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.world import World


@contextmanager
def clear_death(doing: str) -> Iterator[None]:
    """Turns any exception of the engine into an error of one line.

    Args:
        doing: what the engine does meanwhile, for the message.

    Raises:
        TrainingError: in place of any exception.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        reason = one_line(error)
        if "memory" in reason:
            reason += "; lower sampler.gpu_memory_utilization, or set sampler.kv_cache_gib"
        raise TrainingError(f"the vLLM engine died while {doing}: {reason}") from error


@contextmanager
def kept_threads() -> Iterator[None]:
    """Restores the number of threads, and the function that sets it.

    vLLM's workers set the number. On a CPU they also replace the function, so that nobody else can
    set it afterwards.
    """
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(threads)


@contextmanager
def named_rank(device: torch.device) -> Iterator[None]:
    """Tells vLLM the place of this rank among several, by environment variables.

    They are restored afterwards, because Lightning gives another meaning to some of them.
    """
    world = World()
    if world.size == 1:
        yield
        return
    place = {
        "RANK": str(world.rank),
        "LOCAL_RANK": str(world.rank if device.index is None else device.index),
        "WORLD_SIZE": str(world.size),
    }
    before = {name: os.environ.get(name) for name in place}
    os.environ |= place
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def kept_process_group() -> Iterator[None]:
    """Keeps the default process group of several ranks, which vLLM's shutdown would destroy."""
    if World().size == 1:
        yield
        return
    destroy = dist.destroy_process_group
    dist.destroy_process_group = lambda group=None: None if group is None else destroy(group)
    try:
        yield
    finally:
        dist.destroy_process_group = destroy


def one_line(error: Exception) -> str:
    """The message of an error on one line; the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
