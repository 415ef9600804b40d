r"""Rewards by the functions of reasoning-gym, which judge the last `\boxed{...}`."""

from __future__ import annotations

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.base import Reward


class ReasoningGymScore(Reward):
    r"""What the problem's own task gives for the last `\boxed{...}`; 0 without a box.

    A task of reasoning-gym (2505.24760) gives a number up to 1. An answer that is nearly right may
    get a part of 1; an answer is correct if it gets 1. The problem's `extra` must be the metadata
    of a reasoning-gym entry, which names the task.
    """

    def prepare(self) -> None:
        import reasoning_gym  # noqa: F401  slow to import, needed only in processes that judge

    def score(self, response: Response, problem: Problem) -> Score:
        from reasoning_gym import get_score_answer_fn

        extracted = last_boxed(response.text)
        if extracted is None:
            return Score(0.0, False, None, r"no \boxed{}")
        extracted = extracted.strip()
        task = problem.extra.get("source_dataset")
        if task is None:
            raise ValueError("reward=reasoning_gym judges problems of task=reasoning_gym only")
        judge = get_score_answer_fn(task)
        entry = {"answer": problem.answer, "metadata": problem.extra}
        try:
            reward = float(judge(extracted, entry))
        except MemoryError:
            raise
        except Exception as error:  # a wrong answer may make the task's parser raise anything
            return Score(0.0, False, extracted, f"{task} cannot read it: {type(error).__name__}")
        return Score(reward, reward >= 1, extracted, f"scored by {task}")
