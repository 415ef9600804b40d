"""Makes graded trajectories from prompts. Training, validation and evaluation all use this file.

The sampler writes completions, the tokenizer turns them into the text of responses, and the reward
gives each response a score.
"""

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
"""A function that is called with two numbers: how many are done, and how many there are."""
Generate = Callable[[Sequence[Request], Decoding, Progress], list[Completion]]
"""A function that returns one completion for each request, in the same order."""


class Grade(Protocol):
    """A function that returns one score for each response, in the same order.

    `Grader.grade` is such a function.
    """

    def __call__(
        self,
        reward: Reward,
        responses: Sequence[Response],
        problems: Sequence[Problem],
        progress: Progress,
    ) -> list[Score]: ...


class Collector:
    """Samples completions, has the responses graded, and computes their advantages.

    Args:
        generate: the function that samples completions.
        grade: the function that gives scores to responses.
        tokenizer: the tokenizer that decodes completions into text.
        on_phase: a function that is called with the name of what is being done (such as `rollout`
            or `grade`), how many are done, and how many there are.
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
        """The seconds that grading has taken since this collector was made."""

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
        """Returns one group of trajectories for each prompt, in the same order.

        Args:
            prompts: what the policy is asked.
            group_size: the number of completions of each prompt. Advantages stay 0 if it is 1.
            decoding: the distribution that completions are drawn from.
            reward: the reward that judges the responses.
            rules: how rewards are shaped, and how advantages are computed.
            phase: the name that `on_phase` is given while completions are sampled.
            seed_key: the first parts of the seed of a completion. The position of the prompt and
                the number of the completion within its group follow.
        """
        # The seed of a completion depends on its prompt and its number alone, so it is the same on
        # any number of ranks and in any order.
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
    """Returns the completions of some requests, and the responses that they decode to."""
    completions = generate(requests, decoding, progress)
    return completions, decode(completions, tokenizer)


def decode(completions: Sequence[Completion], tokenizer: PreTrainedTokenizerBase) -> list[Response]:
    """Decodes completions into the responses that a reward sees, without the end token.

    Other special tokens are kept, because the policy wrote them on purpose. Examples are `<think>`
    and the marks of a tool call.
    """
    if not completions:
        return []  # the tokenizer would return one empty text for an empty list
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
    """Shapes the reward, and masks a response that may not teach because it was truncated."""
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
