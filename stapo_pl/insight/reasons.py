"""Explains why a rollout teaches nothing: it names the likely cause, and the setting to change."""

from __future__ import annotations

from typing import Protocol

from stapo_pl.core.types import Decoding
from stapo_pl.policy.endings import EndTokens
from stapo_pl.rewards.grading.settings import Grading
from stapo_pl.rollout.rules import RolloutRules
from stapo_pl.tasks.base import Task

# A few responses can always end or be parsed by accident. If at least this share of all responses
# has the same fault, the fault has one common cause.
_NEARLY_ALL = 0.95


class Data(Protocol):
    """The settings that the messages name. The data module has them."""

    task: Task
    decoding: Decoding
    grading: Grading
    end_tokens: EndTokens


def first_rollout(metrics: dict[str, float], data: Data) -> list[str]:
    """Returns a line for each fault of the first rollout of a run.

    Args:
        metrics: the curves of the rollout.
        data: the settings of the run.
    """
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


def why_silent(metrics: dict[str, float], data: Data, rules: RolloutRules) -> str:
    """Returns a sentence with the likely cause why a rollout taught nothing.

    Args:
        metrics: the curves of the rollout.
        data: the settings of the run.
        rules: the rules that the objective sets for rollouts.
    """
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
