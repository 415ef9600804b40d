"""Warns, with the likely cause, if nothing can be learned from a run."""

from __future__ import annotations

from typing import Any

from stapo_pl.insight.reasons import first_rollout, why_silent
from stapo_pl.training.events import RolloutDone
from stapo_pl.training.parts import Parts, RunCallback

# One rollout without signal can be chance. So many in a row cannot.
_PATIENCE = 5


class Alarms(RunCallback):
    """Warns once about each fault that leaves a run without signal.

    After the first rollout, it warns if nearly no response was judged, came to an end, or had an
    answer. Later, it warns if five rollouts in a row taught nothing. All ranks see the same
    numbers, and the first rank prints.
    """

    def __init__(self) -> None:
        self._silent = 0
        """The number of rollouts in a row that taught nothing. It stays after the warning."""

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
