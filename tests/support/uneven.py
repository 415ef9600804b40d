"""A task that has one problem less on the second rank."""

from __future__ import annotations

import os

from stapo_pl.tasks import Arithmetic


class Uneven(Arithmetic):
    def train_problems(self):
        found = super().train_problems()
        if os.environ.get("LOCAL_RANK") == "1":
            found.problems.pop(0)
        return found
