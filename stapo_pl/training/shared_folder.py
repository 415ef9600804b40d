"""Checks that all nodes of a run share a folder."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World

# A network file system may take some seconds until it shows a new file.
_PATIENCE = 60.0


def check_shared(
    folder: Path, world: World, device: torch.device, patience: float = _PATIENCE
) -> None:
    """Checks that every rank sees a file that the first rank writes. All ranks must call it.

    Args:
        folder: the folder of the run's checkpoints. The first rank makes it if it is missing.
        world: the ranks.
        device: the device on which collectives compute.
        patience: seconds that a rank waits for the file.

    Raises:
        ConfigError: some rank does not see it. The error is raised on all ranks.
    """
    (token, *_) = world.gather(torch.tensor([secrets.randbits(62)], device=device)).tolist()
    file = folder / f".seen-by-all-{token}"
    if world.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        file.touch()
    world.barrier()
    end = time.monotonic() + patience
    while not (seen := file.exists()) and time.monotonic() < end:
        time.sleep(0.2)
    all_seen = world.gather(torch.tensor([int(seen)], device=device)).tolist()
    if world.rank == 0:
        file.unlink()
    if blind := [rank for rank, sees in enumerate(all_seen) if not sees]:
        raise ConfigError(
            f"run.logs: ranks {', '.join(map(str, blind))} do not see what the first one writes to "
            f"{folder}, so no checkpoint could be read by all. Nodes need a file system that they "
            "share: set run.logs to a folder on it"
        )
