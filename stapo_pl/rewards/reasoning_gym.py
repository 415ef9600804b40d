r"""The score that a task of reasoning-gym gives to the last `\boxed{...}`."""

from __future__ import annotations

from stapo_pl.core.types import Problem, Response, Score
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.rewards.base import Reward


class ReasoningGymScore(Reward):
    r"""The score of the problem's own task for the last `\boxed{...}`, 0 if there is none.

    Tasks of reasoning-gym (2505.24760) may give a part of 1 to what is nearly right; an answer is
    correct if it has all of it. The problem's `extra` is the entry's metadata, which names the
    task.
    """

    def prepare(self) -> None:
        import reasoning_gym  # noqa: F401  heavy, and only needed where answers are judged

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
        except Exception as error:  # what a model writes may break a task's parser: it is wrong
            return Score(0.0, False, extracted, f"{task} cannot read it: {type(error).__name__}")
        return Score(reward, reward >= 1, extracted, f"scored by {task}")
