"""What vLLM does to the process that it runs in, and how it is kept from it."""

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
    """Whatever may go wrong in a large engine ends the run with one line.

    Raises:
        TrainingError: in the place of any exception.
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
    """vLLM's workers set the number of threads; a CPU's lets nobody else do so afterwards."""
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(threads)


@contextmanager
def named_rank(device: torch.device) -> Iterator[None]:
    """Tells vLLM its place among several ranks; Lightning reads the same variables otherwise."""
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
    """vLLM's shutdown destroys the default process group, also where it is the whole run's."""
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
    """The message of an error, however many lines it has."""
    return " ".join(str(error).split()) or type(error).__name__
