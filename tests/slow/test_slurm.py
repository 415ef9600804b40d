"""A run that a batch system ends and starts again."""

from __future__ import annotations

import os
import signal

import pytest

from support.resuming import fit, losses

pytestmark = pytest.mark.slow


def test_slurm_queues_a_job_again_that_then_goes_on(uninterrupted, tmp_path):
    """SIGUSR1 inside a rollout: the run ends after it, saved; `scontrol requeue` is called."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "42", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    first = fit(tmp_path, "SIGUSR1", **slurm)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "called").read_text() == "requeue 42\n"
    before = losses(tmp_path)
    assert ("2", "3") in before and ("3", "0") not in before
    second = fit(tmp_path, None, **slurm, SLURM_RESTART_COUNT="1")
    assert second.returncode == 0, second.stderr
    assert losses(tmp_path) == losses(uninterrupted)
    assert len(list((tmp_path / "logs").glob("*/*"))) == 1


def test_sigterm_ends_with_its_own_code_and_says_how_to_go_on(tmp_path):
    ended = fit(tmp_path, "SIGTERM")
    assert ended.returncode == 128 + signal.SIGTERM
    assert "stopped at step 4; the same command with ckpt_path=last goes on" in ended.stdout
    assert "Traceback" not in ended.stderr and ("2", "1") not in losses(tmp_path)
