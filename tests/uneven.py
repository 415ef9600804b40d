"""A task that has one problem less on the second rank."""

from __future__ import annotations

import os

from stapo_pl.tasks import Arithmetic


class Uneven(Arithmetic):
    def train_problems(self):
        problems = super().train_problems()
        return problems[1:] if os.environ.get("LOCAL_RANK") == "1" else problems
