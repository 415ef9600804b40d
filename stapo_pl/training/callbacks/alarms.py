"""A run from which nothing can be learned says so, with the likely cause."""

from __future__ import annotations

from typing import Any

from stapo_pl.insight.reasons import first_rollout, why_silent
from stapo_pl.training.events import RolloutDone
from stapo_pl.training.parts import Parts, RunCallback

# Rollouts without signal, one after another, that are no chance any more.
_PATIENCE = 5


class Alarms(RunCallback):
    """Warns once of each fault that leaves a run without signal.

    After the first rollout: nearly no response was judged, ended, or had an answer. After five
    rollouts in a row: none of them taught anything. All ranks measure the same, the first one
    speaks.
    """

    def __init__(self) -> None:
        self._silent = 0
        """Rollouts in a row that taught nothing; once the warning is given, it stays."""

    def state_dict(self) -> dict[str, Any]:
        return {"silent": self._silent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._silent = state_dict["silent"]

    def connect(self, parts: Parts) -> None:
        self._data, self._module = parts.data, parts.module
        parts.events.listen(RolloutDone, self._rollout_done)

    def _rollout_done(self, event: RolloutDone) -> None:
        data, metrics, module = self._data, event.metrics, self._module
        if module.current_epoch == 0:
            for line in first_rollout(metrics, data):
                module.print(f"warning: {line}")
        if self._silent == _PATIENCE:
            return
        is_silent = metrics["reward/zero_signal_fraction"] == 1
        is_silent |= event.skipped_steps == data.sizes.steps_per_rollout
        self._silent = self._silent + 1 if is_silent else 0
        if self._silent == _PATIENCE:
            module.print(
                f"warning: {_PATIENCE} rollouts in a row taught nothing, as all responses to each "
                f"prompt were rewarded alike, or masked.\n{why_silent(metrics, data, data.rules)}"
            )
