"""What a run does when a scheduler asks it to end.

SIGTERM ends it at once, as Ctrl-C does. Under SLURM, the signal that comes before the time limit
(`sbatch --signal=USR1@600`) lets it finish its rollout, save, and have the job queued again.
"""

from __future__ import annotations

import os
import signal
import subprocess

from lightning.pytorch.utilities import rank_zero_info

from stapo_pl.core.errors import Terminated


def end_on_sigterm() -> None:
    """From now on, SIGTERM raises `Terminated` in the main thread."""
    signal.signal(signal.SIGTERM, terminate)


def terminate(signum, frame) -> None:
    """Handles a SIGTERM: ends what the process does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the ending
    raise Terminated("SIGTERM")


def requeue() -> None:
    """Has SLURM queue this job again: it starts with the same command, and goes on."""
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
