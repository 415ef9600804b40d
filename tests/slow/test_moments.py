"""A run that was killed at still other moments continues as if nothing had happened."""

from __future__ import annotations

import pytest

from support.resuming import check_killed_and_resumed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "moment",
    [
        "between micro-batches",
        "right after a checkpoint",
        "after step 1 of K",  # where a checkpoint was asked for
    ],
)
def test_a_killed_run_resumes_to_the_last_bit(uninterrupted, tmp_path, moment):
    check_killed_and_resumed(uninterrupted, tmp_path, moment)
