"""A run on two nodes without a shared folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.places import FIT
from support.ranks import WORDS

pytestmark = pytest.mark.slow


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
        # The same path, which is another folder for each of them.
        words += ["run.logs=/proc/self/cwd/logs", "run.name=run"]
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
