"""Makes graded trajectories from prompts. Training, validation and evaluation all use this file.

The sampler writes completions, the tokenizer turns them into the text of responses, and the reward
gives each response a score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

from transformers import PreTrainedTokenizerBase

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import (
    Completion,
    Decoding,
    Ended,
    Prompt,
    Request,
    Response,
    Score,
    Trajectory,
)
from stapo_pl.rewards.base import Reward
from stapo_pl.rewards.grading.judging import Judging
from stapo_pl.rollout.rules import RolloutRules
from stapo_pl.rollout.shaping import overlong_punishment

Generate = Callable[[Sequence[Request], Decoding, Ended], list[Completion]]
"""A function that returns one completion for each request, in the same order."""
Judge = Callable[[Reward], AbstractContextManager[Judging]]
"""A function such as `Grader.judging`: what it returns judges responses with a reward."""


class Collector:
    """Samples completions, and has the responses graded.

    Args:
        generate: the function that samples completions.
        judge: the function that begins to judge responses.
        tokenizer: the tokenizer that decodes completions into text.
        on_phase: a function that is called with the name of what is being done (such as `rollout`
            or `grade`), how many are done, and how many there are.
    """

    def __init__(
        self,
        generate: Generate,
        judge: Judge,
        tokenizer: PreTrainedTokenizerBase,
        on_phase: Callable[[str, int, int], None],
    ) -> None:
        self.generate, self.judge, self.tokenizer = generate, judge, tokenizer
        self.on_phase = on_phase
        self.grade_seconds = 0.0
        """The seconds that this collector has waited for grading after sampling. Most responses are
        graded before, while others are still being sampled."""

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
            group_size: the number of completions of each prompt.
            decoding: the distribution that completions are drawn from.
            reward: the reward that judges the responses.
            rules: how rewards are shaped.
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
        owners = [prompt for prompt in prompts for _ in range(group_size)]
        completions, responses, scores = self._judged(requests, owners, decoding, reward, phase)
        trajectories = [
            _trajectory(*sample, decoding.max_new_tokens, rules)
            for sample in zip(owners, completions, responses, scores, strict=True)
        ]
        for i, (trajectory, request) in enumerate(zip(trajectories, requests, strict=True)):
            trajectory.sample, trajectory.seed = i % group_size, request.seed
        return [trajectories[i : i + group_size] for i in range(0, len(trajectories), group_size)]

    def _judged(
        self,
        requests: Sequence[Request],
        owners: Sequence[Prompt],
        decoding: Decoding,
        reward: Reward,
        phase: str,
    ) -> tuple[list[Completion], list[Response], list[Score]]:
        """Samples, and has responses graded while others are still being sampled."""
        done = 0

        def heard(responses: dict[int, Response]) -> None:
            nonlocal done
            for number, response in responses.items():
                judging.add(number, response, owners[number].problem)
            done += len(responses)
            self.on_phase(phase, done, len(requests))

        self.on_phase(phase, 0, len(requests))
        with self.judge(reward) as judging:
            sampled = respond(requests, decoding, self.generate, self.tokenizer, heard)
            start = time.perf_counter()
            scores = judging.finish(partial(self.on_phase, "grade"))
            self.grade_seconds += time.perf_counter() - start
        return *sampled, [scores[number] for number in range(len(requests))]


def respond(
    requests: Sequence[Request],
    decoding: Decoding,
    generate: Generate,
    tokenizer: PreTrainedTokenizerBase,
    heard: Callable[[dict[int, Response]], None],
) -> tuple[list[Completion], list[Response]]:
    """Returns the completions of some requests, and the responses that they decode to.

    Args:
        requests: what the policy is asked.
        decoding: the distribution that completions are drawn from.
        generate: the function that samples completions.
        tokenizer: the tokenizer that decodes completions into text.
        heard: it is called with responses as they end, by the numbers of their requests. It hears
            each of them once.
    """
    responses: dict[int, Response] = {}
    told: dict[int, Completion] = {}

    def hear(ended: dict[int, Completion]) -> None:
        new = dict(zip(ended, decode(list(ended.values()), tokenizer), strict=True))
        told.update(ended)
        responses.update(new)
        heard(new)

    completions = generate(requests, decoding, hear)
    # A sampler need not tell its completions before it returns them.
    hear({number: c for number, c in enumerate(completions) if number not in told})
    for number, completion in enumerate(completions):
        assert completion.token_ids == told[number].token_ids, "it is not what the sampler told"
    return completions, [responses[number] for number in range(len(completions))]


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
