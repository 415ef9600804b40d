"""Nodes that share no file system are refused at the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_fsdp import FIT, WORDS
from torch import multiprocessing

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World
from stapo_pl.training.shared_folder import check_shared


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
    multiprocessing.spawn(one_of_two_nodes, (str(tmp_path / "rendezvous"), str(tmp_path)), 2)
    for rank in range(2):
        shared, apart = (tmp_path / f"said-{rank}").read_text().splitlines()
        assert shared == "seen by all"
        assert apart.startswith("run.logs: ranks 1 do not see what the first one writes to")
    assert list((tmp_path / "shared").iterdir()) == []


@pytest.mark.slow
def test_a_run_on_two_nodes_without_a_shared_folder_does_not_start(tmp_path):
    """Two nodes of a rank each, on one machine, each with a folder of its own."""
    patience = "import stapo_pl.training.shared_folder as s; s.check_shared.__defaults__ = (0.5,)\n"
    (tmp_path / "sitecustomize.py").write_text(patience)
    runs = []
    for node in range(2):
        environment = os.environ | {
            "PYTHONPATH": f"{tmp_path}:{FIT.parents[1]}", "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000),
            "NODE_RANK": str(node), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "RANK": str(node),
            "GROUP_RANK": str(node), "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x",
        }  # fmt: skip
        words = ["trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2"]
        words += ["run.logs=logs", "run.name=run"]  # in a folder of each
        (tmp_path / str(node)).mkdir()
        command = [sys.executable, FIT, *WORDS, *words]
        runs.append(
            subprocess.Popen(
                command,
                env=environment,
                cwd=tmp_path / str(node),
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [2, 2], errors
    assert all("error: run.logs: ranks 1 do not see" in error for error in errors)
