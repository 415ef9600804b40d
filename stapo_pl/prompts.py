"""From a task's problems to the endless stream of prompts of a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from stapo_pl.errors import ConfigError
from stapo_pl.seeding import seed_for
from stapo_pl.tasks.base import Problem
from stapo_pl.types import Prompt

LongPrompts = Literal["error", "drop"]


def render(problem: Problem, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt, by the tokenizer's chat template if it has one, else as plain text."""
    if tokenizer.chat_template is not None:
        text = tokenizer.apply_chat_template(
            problem.messages, tokenize=False, add_generation_prompt=True
        )
    else:
        text = "\n\n".join(message["content"] for message in problem.messages)
    return tokenizer.encode(text, add_special_tokens=tokenizer.chat_template is None)


def tokenize(
    problems: Sequence[Problem],
    tokenizer: PreTrainedTokenizerBase,
    max_prompt_tokens: int,
    long_prompts: LongPrompts,
    name: str,
) -> tuple[list[Prompt], int]:
    """Prompts that are not too long, numbered by their place, and how many were.

    Raises:
        ConfigError: there are longer ones and `long_prompts` is `error`, or no prompt is left.
    """
    rendered = [render(problem, tokenizer) for problem in problems]
    lengths = [len(ids) for ids in rendered]
    if min(lengths, default=1) == 0:
        raise ConfigError(f"{name} problem {lengths.index(0)} has an empty prompt")
    too_long = sum(length > max_prompt_tokens for length in lengths)
    if too_long and long_prompts == "error":
        raise ConfigError(
            f"{too_long} of {len(lengths)} {name} prompts are longer than "
            f"data.max_prompt_tokens={max_prompt_tokens} "
            f"(the longest has {max(lengths)} tokens); raise it, or set data.long_prompts=drop"
        )
    prompts = [
        Prompt(ids, problem, position)
        for position, (problem, ids) in enumerate(zip(problems, rendered, strict=True))
        if len(ids) <= max_prompt_tokens
    ]
    if not prompts:
        raise ConfigError(f"the task has no {name} prompt of at most {max_prompt_tokens} tokens")
    return prompts, too_long


class PromptStream:
    """All prompts, shuffled anew in every pass; the seed alone decides which stands where."""

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self.prompts, self.seed = prompts, seed
        self._pass, self._order = -1, list[int]()

    def __getitem__(self, position: int) -> Prompt:
        number, place = divmod(position, len(self.prompts))
        if number != self._pass:
            self._pass, self._order = number, list(range(len(self.prompts)))
            random.Random(seed_for(self.seed, "order", number)).shuffle(self._order)
        prompt = self.prompts[self._order[place]]
        return Prompt(prompt.token_ids, prompt.problem, position)
