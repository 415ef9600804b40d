"""What vLLM does to the process that it runs in, and how it is kept from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from stapo_pl.errors import TrainingError
from stapo_pl.world import World


@contextmanager
def clear_death(doing: str) -> Iterator[None]:
    """Whatever may go wrong in a large engine ends the run with one line."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(
            f"the vLLM engine died while {doing}: {one_line(error)}; the last checkpoint is "
            "intact, and ckpt_path=last goes on from it"
        ) from error


@contextmanager
def kept_thread_setting() -> Iterator[None]:
    """vLLM's CPU worker replaces `torch.set_num_threads` by a function that does nothing."""
    set_num_threads = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads


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
