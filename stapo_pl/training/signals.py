"""What a run does when a scheduler asks it to end.

SIGTERM ends it at once, as Ctrl-C does. Under SLURM, the signal that comes before the time limit
(`sbatch --signal=USR1@600`) lets it finish its rollout, save, and have the job queued again.
"""

from __future__ import annotations

import os
import signal
import subprocess

import torch
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_info

from stapo_pl.core.errors import Terminated
from stapo_pl.core.world import World


def end_on_sigterm() -> None:
    """From now on, SIGTERM raises `Terminated` in the main thread."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(signum, frame) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the ending
    raise Terminated("SIGTERM")


class Signals(_SignalConnector):
    """In the place of Lightning's handlers, which end a run after its rollout, with exit code 0.

    Theirs also start collectives from inside a handler, where another collective may be under way.
    """

    def register_signal_handlers(self) -> None:
        self._original_handlers = self._get_current_signal_handlers()
        self._is_requeue_asked = False
        self._register_signal(signal.SIGTERM, _terminate)
        if "SLURM_JOB_ID" in os.environ:
            self._register_signal(signal.SIGUSR1, self._ask_for_requeue)

    def requeue_is_due(self, device: torch.device) -> bool:
        """Whether any rank was asked to be queued again. Collective over all ranks."""
        return bool(World().sum(torch.tensor(int(self._is_requeue_asked), device=device)))

    def _ask_for_requeue(self, signum, frame) -> None:
        self._is_requeue_asked = True
        # Not printed: the signal may have come in the middle of a print.
        os.write(2, b"\nSIGUSR1: this job is queued again when the rollout is done and saved\n")


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
