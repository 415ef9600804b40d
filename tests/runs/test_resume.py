"""A run that was killed anywhere continues as if nothing had happened, to the last bit."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from support.places import FIT
from support.resuming import check_killed_and_resumed


@pytest.mark.parametrize("moment", ["during a rollout", "while a checkpoint is written"])
def test_a_killed_run_resumes_to_the_last_bit(uninterrupted, tmp_path, moment):
    check_killed_and_resumed(uninterrupted, tmp_path, moment)


def test_ctrl_c_ends_cleanly(tmp_path):
    command = [
        sys.executable,
        FIT,
        f"run.logs={tmp_path}",
        "trainer.max_epochs=50",
        "data.prompts_per_rollout=32",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # Started in the background of a shell, the tests themselves may ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    seen = ""
    while "rollouts =" not in seen:
        seen += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    seen += process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "stopped at step 0; there was no checkpoint yet" in seen
    assert "Traceback" not in seen
