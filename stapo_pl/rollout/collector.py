"""Prompts in, graded responses out: what training, validation and evaluation have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from transformers import PreTrainedTokenizerBase

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import (
    Completion,
    Decoding,
    Problem,
    Prompt,
    Request,
    Response,
    Score,
    Trajectory,
)
from stapo_pl.rewards.base import Reward
from stapo_pl.rollout.advantages import group_advantages
from stapo_pl.rollout.rules import RolloutRules
from stapo_pl.rollout.shaping import overlong_punishment

Progress = Callable[[int, int], None]
"""Called with (how many are done, how many there are)."""
Generate = Callable[[Sequence[Request], Decoding, Progress], list[Completion]]
"""Gives one completion for each request, in order."""


class Grade(Protocol):
    """Gives one score for each response, in order; `Grader.grade` does."""

    def __call__(
        self,
        reward: Reward,
        responses: Sequence[Response],
        problems: Sequence[Problem],
        progress: Progress,
    ) -> list[Score]: ...


class Collector:
    """Samples responses to prompts, has them graded, and makes their group-relative advantages.

    Args:
        generate: asks the sampler.
        grade: asks the reward.
        tokenizer: decodes what the sampler gives back.
        on_phase: called with (phase, how many are done, how many there are).
    """

    def __init__(
        self,
        generate: Generate,
        grade: Grade,
        tokenizer: PreTrainedTokenizerBase,
        on_phase: Callable[[str, int, int], None],
    ) -> None:
        self.generate, self.grade, self.tokenizer = generate, grade, tokenizer
        self.on_phase = on_phase
        self.grade_seconds = 0.0
        """Time that grading has taken since this collector was made."""

    def collect(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        decoding: Decoding,
        reward: Reward,
        rules: RolloutRules,
        phase: str,
        seed_key: tuple[int | str, ...],
    ) -> list[list[Trajectory]]:
        """One group of responses for each prompt.

        Args:
            group_size: responses to each prompt. Advantages are made where there are several.
            rules: how rewards are shaped and advantages are made.
            phase: what this is a part of, for `on_phase`.
            seed_key: what the random numbers of a response depend on, besides the position of its
                prompt and its number in the group.
        """
        requests = [
            Request(prompt.token_ids, seed_for(*seed_key, prompt.position, sample))
            for prompt in prompts
            for sample in range(group_size)
        ]
        progress = partial(self.on_phase, phase)
        completions, responses = respond(
            requests, decoding, self.generate, self.tokenizer, progress
        )
        owners = [prompt for prompt in prompts for _ in range(group_size)]
        scores = self._graded(reward, responses, [prompt.problem for prompt in owners])
        trajectories = [
            _trajectory(*sample, decoding.max_new_tokens, rules)
            for sample in zip(owners, completions, responses, scores, strict=True)
        ]
        groups = [trajectories[i : i + group_size] for i in range(0, len(trajectories), group_size)]
        if groups and group_size > 1:
            rewards_PG = torch.tensor([[t.reward for t in group] for group in groups])
            advantages_PG = group_advantages(rewards_PG, rules.advantage)
            for group, advantages in zip(groups, advantages_PG.tolist(), strict=True):
                for trajectory, advantage in zip(group, advantages, strict=True):
                    trajectory.advantage = advantage
        return groups

    def _graded(
        self, reward: Reward, responses: Sequence[Response], problems: Sequence[Problem]
    ) -> list[Score]:
        start = time.perf_counter()
        scores = self.grade(reward, responses, problems, partial(self.on_phase, "grade"))
        self.grade_seconds += time.perf_counter() - start
        return scores


def respond(
    requests: Sequence[Request],
    decoding: Decoding,
    generate: Generate,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
) -> tuple[list[Completion], list[Response]]:
    """What the sampler gives back for requests, and the same as a reward sees it."""
    completions = generate(requests, decoding, progress)
    return completions, decode(completions, tokenizer)


def decode(completions: Sequence[Completion], tokenizer: PreTrainedTokenizerBase) -> list[Response]:
    """Completions as a reward sees them: all that the policy wrote, without the end token.

    Special tokens within are kept, as the policy wrote them on purpose (`<think>`, calls of tools).
    """
    if not completions:
        return []  # a tokenizer takes an empty list for one empty text
    written = [c.token_ids if c.truncated else c.token_ids[:-1] for c in completions]
    texts = tokenizer.batch_decode(
        written, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return [
        Response(text, len(completion.token_ids), completion.truncated)
        for completion, text in zip(completions, texts, strict=True)
    ]


def _trajectory(
    prompt: Prompt,
    completion: Completion,
    response: Response,
    score: Score,
    max_new_tokens: int,
    rules: RolloutRules,
) -> Trajectory:
    length = len(completion.token_ids)
    punishment = overlong_punishment(length, max_new_tokens, rules.overlong_buffer)
    teaches = not (rules.overlong_filtering and completion.truncated)
    return Trajectory(
        prompt=prompt,
        completion=completion,
        text=response.text,
        reward=score.reward + punishment,
        score=score,
        response_mask=[teaches] * length,
    )
