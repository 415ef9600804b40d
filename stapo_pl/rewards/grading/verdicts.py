"""Checks what rewards give, and reports rewards that fail."""

from __future__ import annotations

import json
from pathlib import Path

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.base import Reward

# Advantages square rewards in float32. That overflows beyond 1e19, and all advantages would be 0.
_LARGEST_REWARD = 1e15


class RewardError(TrainingError):
    """A reward raised an exception. The message holds the traceback and names the file in which the
    response was saved."""


def checked(
    reward: Reward, response: Response, problem: Problem, score: Score, folder: Path
) -> Score:
    """Returns the score with plain numbers and text. A user's reward may return anything at all.

    Args:
        reward: the reward that gave the score.
        response: the response that it judged.
        problem: the problem that the response answers.
        score: what the reward returned.
        folder: the folder where the response is saved if the score is refused.

    Raises:
        RewardError: it returned no score, or one that no advantage can be made of.
    """
    try:
        if isinstance(score.reward, str) or score.correct not in (True, False):
            raise TypeError
        plain = Score(
            float(score.reward),
            bool(score.correct),
            score.extracted,
            str(score.reason),
            {name: float(part) for name, part in score.components.items()},
        )
    except Exception as error:
        reason = f"it gave {score!r}, which is no score"
        raise refusal(reward, response, problem, reason, folder) from error
    if not all(abs(x) <= _LARGEST_REWARD for x in (plain.reward, *plain.components.values())):
        reason = (
            f"it gave a reward of {score.reward}, expected a number and all of its components "
            f"to be finite and at most {_LARGEST_REWARD:g} in size"
        )
        raise refusal(reward, response, problem, reason, folder)
    if not isinstance(plain.extracted, str | None):
        reason = f"it extracted {plain.extracted!r}, expected text or None"
        raise refusal(reward, response, problem, reason, folder)
    return plain


def refusal(
    reward: Reward, response: Response, problem: Problem, reason: str, folder: Path
) -> RewardError:
    """Returns the error to raise when a reward fails on a response, and saves the response."""
    file = folder / "failed_response.json"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "reward": type(reward).__name__,
        "response": vars(response),
        "problem": vars(problem),
        "error": reason,
    }
    file.write_text(json.dumps(content, indent=1, default=repr))
    reason = reason.rstrip()
    *before, cause = reason.split("\n")
    message = (
        f"the reward {type(reward).__name__} failed on a response, saved in {file}; rewards "
        f"must take any text: {cause}"
    )
    return RewardError(f"{message}\n{reason}" if before else message)
