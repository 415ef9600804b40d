"""What a run does when a scheduler asks it to end.

SIGTERM ends the run at once, as Ctrl-C does. SLURM can send another signal some time before the
time limit (`sbatch --signal=USR1@600`). The run then finishes its rollout, saves a checkpoint, and
SLURM queues the job again.
"""

from __future__ import annotations

import os
import signal
import subprocess

from lightning.pytorch.utilities import rank_zero_info

from stapo_pl.core.errors import Terminated


def end_on_sigterm() -> None:
    """Makes SIGTERM raise `Terminated` in the main thread from now on."""
    signal.signal(signal.SIGTERM, terminate)


def terminate(signum, frame) -> None:
    """Handles SIGTERM by raising `Terminated`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not disturb the ending
    raise Terminated("SIGTERM")


def requeue() -> None:
    """Asks SLURM to queue this job again. It will start with the same command, and resume."""
    array, job = (os.environ.get(f"SLURM_{name}") for name in ("ARRAY_JOB_ID", "JOB_ID"))
    if array is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        failure = done.stderr.strip() if done.returncode else None
    except OSError as error:
        failure = str(error)
    if failure is not None:
        rank_zero_info(f"SLURM did not queue job {job} again: {failure}")
