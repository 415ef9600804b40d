"""Nodes that share no file system are refused at the start."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.training.shared_folder import check_shared
from support.commands import fork


def one_of_two_nodes(rank: int, rendezvous: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    said = []
    for runs in (Path(folder, "shared"), Path(folder, f"disk-of-{rank}")):
        try:
            check_shared(runs, World(), torch.device("cpu"), patience=0.5)
            said.append("seen by all")
        except ConfigError as error:
            said.append(str(error))
    Path(folder, f"said-{rank}").write_text("\n".join(said))
    dist.destroy_process_group()


def test_ranks_that_do_not_see_the_first_ones_folder_are_named(tmp_path):
    fork(one_of_two_nodes, str(tmp_path / "rendezvous"), str(tmp_path))
    for rank in range(2):
        shared, apart = (tmp_path / f"said-{rank}").read_text().splitlines()
        assert shared == "seen by all"
        assert apart.startswith("run.logs: ranks 1 do not see what the first one writes to")
    assert list((tmp_path / "shared").iterdir()) == []
