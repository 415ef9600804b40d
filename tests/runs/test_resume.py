"""A run that was killed anywhere continues as if nothing had happened, to the last bit."""

from __future__ import annotations

import signal
import time

import pytest

from support.commands import Command
from support.resuming import check_killed_and_resumed


@pytest.mark.parametrize("moment", ["during a rollout", "while a checkpoint is written"])
def test_a_killed_run_resumes_to_the_last_bit(uninterrupted, tmp_path, moment):
    check_killed_and_resumed(uninterrupted, tmp_path, moment)


def test_ctrl_c_ends_cleanly(tmp_path):
    words = ("trainer.max_epochs=50", "data.prompts_per_rollout=32", "task.train_size=64")
    run = Command("fit", f"run.logs={tmp_path}", *words)
    while "rollouts =" not in run.output:
        assert run.returncode is None
        time.sleep(0.01)
    run.kill(signal.SIGINT)
    ended = run.wait(60)
    assert ended.returncode == 1
    assert "stopped at step 0; there was no checkpoint yet" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
