"""A run from which nothing can be learned says so, with the likely cause."""

from __future__ import annotations

from typing import Any

from stapo_pl.rollout.rules import RolloutRules
from stapo_pl.training.datamodule import RolloutDataModule
from stapo_pl.training.events import RolloutDone
from stapo_pl.training.parts import Parts, RunCallback

# A response may end, or be parsed, by accident; what holds for so many has one cause.
_NEARLY_ALL = 0.95
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


def first_rollout(metrics: dict[str, float], data: RolloutDataModule) -> list[str]:
    """What is wrong with a rollout of the policy that the run starts from, a line each."""
    lines = []
    timeouts, errors = metrics["reward/timeouts"], metrics["reward/errors"]
    unjudged = (timeouts + errors) / metrics["rollout/samples"]
    truncated, unparsed = metrics["rollout/truncated_fraction"], metrics["reward/unparsed_fraction"]
    if unjudged >= _NEARLY_ALL:
        lines.append(
            f"{unjudged:.1%} of the responses could not be judged: {timeouts:.0f} took over "
            f"data.grading.time_limit={data.grading.time_limit:g} seconds, {errors:.0f} over "
            f"data.grading.memory_gib={data.grading.memory_gib:g} or crashed. All got the worst "
            "reward; raise the limit, or set fewer data.grading.workers on a busy machine"
        )
    if truncated >= _NEARLY_ALL:
        lines.append(
            f"{truncated:.1%} of the responses were cut off at data.max_new_tokens="
            f"{data.decoding.max_new_tokens}: they need more, or the policy ends with another "
            f"token than {data.end_tokens}, at which samplers stop: name it in "
            "data.stop_token_ids"
        )
    if unparsed >= _NEARLY_ALL > unjudged and data.task.reward.extracts:
        lines.append(
            f"the reward ({type(data.task.reward).__name__}) found no answer in {unparsed:.1%} of "
            "the responses: does the prompt ask for the form that it reads (task.template, "
            "task.system), is data.prompt_format what the model knows, is there room to answer "
            "(data.max_new_tokens)?"
        )
    return lines


def why_silent(metrics: dict[str, float], data: RolloutDataModule, rules: RolloutRules) -> str:
    """The likely cause of a rollout that taught nothing."""
    accuracy, reward = metrics["reward/accuracy"], metrics["reward/mean"]
    truncated = metrics["rollout/truncated_fraction"]
    if truncated == 1 and rules.overlong_filtering:
        return (
            f"All are cut off at data.max_new_tokens={data.decoding.max_new_tokens}, and "
            "objective.overlong_filtering masks those"
        )
    if accuracy == 1:
        return (
            f"All are right, with a reward of {reward:.3g}: the task is too easy for this policy, "
            "or the reward does not tell responses apart"
        )
    if accuracy == 0:
        unparsed = metrics["reward/unparsed_fraction"]
        found = f"no answer was found in {unparsed:.1%}, " if data.task.reward.extracts else ""
        return (
            f"None is right ({found}{truncated:.1%} are cut off): the task is too hard for this "
            "policy, or the reward does not find what it looks for"
        )
    if metrics["reward/std"] == 0:
        return (
            f"Right or wrong, all get a reward of {reward:.3g}: the reward does not tell responses "
            "apart"
        )
    return (
        f"{accuracy:.1%} are right, but all or none to each prompt: prompts are too easy or too "
        "hard, or the policy hardly varies (policy/entropy)"
    )
