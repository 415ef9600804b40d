"""Makes the prompts that a sampler is asked from the problems of a task."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, ProblemSet, Prompt

OnBadRow = Literal["error", "skip"]
Duplicates = Literal["keep", "drop", "error"]
PromptFormat = Literal["auto", "chat", "plain"]

# How many rows an error names. A few examples show what is wrong with all of them.
_SHOWN = 10


@dataclass
class PromptRules:
    """Decides which problems become prompts. `RolloutDataModule` explains the fields."""

    max_prompt_tokens: int
    on_bad_row: OnBadRow = "error"
    duplicates: Duplicates = "keep"
    prompt_format: PromptFormat = "auto"


@dataclass
class PromptCounts:
    """Counts what happened to the rows of a set of problems."""

    rows: int
    """All rows that were read."""
    prompts: int = 0
    """The rows that became prompts."""
    filtered: int = 0
    """The rows that the task left out on purpose."""
    bad: int = 0
    """The rows that could not be read, or that the chat template refuses."""
    too_long: int = 0
    """The rows whose prompt has more tokens than a prompt may have."""
    duplicates: int = 0
    """The rows that ask the same as an earlier row. They count whether they are kept or not."""
    conflicting: int = 0
    """The duplicates whose answer differs from that of the earlier row."""
    solutions: int = 0
    """The prompts whose row ended with a message of the assistant, which was removed."""

    def describe(self, rules: PromptRules) -> str:
        """Returns a line for people with all counts that are not 0."""
        duplicates = self.duplicates and (
            f"{self.duplicates} duplicates ({self.conflicting} with another answer)"
        )
        is_dropped = rules.duplicates == "drop"
        dropped = [
            self.filtered and f"{self.filtered} filtered",
            is_dropped and duplicates,
            self.bad and f"{self.bad} bad rows",
            self.too_long
            and f"{self.too_long} longer than data.max_prompt_tokens={rules.max_prompt_tokens}",
        ]
        parts = [f"{self.prompts} prompts" + f" of {self.rows} rows" * (self.rows > self.prompts)]
        if any(dropped):
            parts.append(f"dropped: {', '.join(part for part in dropped if isinstance(part, str))}")
        if duplicates and not is_dropped:
            parts.append(f"kept: {duplicates}")
        if self.solutions:
            parts.append(
                f"{self.solutions} without the assistant's message at their end "
                "(task.last_assistant=drop)"
            )
        return "; ".join(parts)


def make_prompts(
    problem_set: ProblemSet, tokenizer: PreTrainedTokenizerBase, rules: PromptRules, name: str
) -> tuple[list[Prompt], PromptCounts]:
    """Makes prompts of the problems that the rules keep, and counts what was dropped.

    A prompt's position is its place in the returned list.

    Args:
        problem_set: the problems of a task.
        tokenizer: the tokenizer of the policy.
        rules: which problems become prompts.
        name: the name of the set in errors.

    Raises:
        ConfigError: the rules refuse a bad row or a duplicate; the tokenizer has no chat template,
            but the rules ask for one; or no prompt is left.
    """
    is_chat = uses_chat(tokenizer, rules.prompt_format)
    counts = PromptCounts(
        rows=len(problem_set.problems) + len(problem_set.bad_rows) + problem_set.filtered,
        filtered=problem_set.filtered,
    )
    for number, problem in enumerate(problem_set.problems, 1):
        problem.place = problem.place or f"{name} problem {number}"
    problems = _without_duplicates(problem_set.problems, rules.duplicates, counts, name)
    bad, too_long, longest = list(problem_set.bad_rows), [], 0
    prompts, rendered = list[Prompt](), dict[tuple, list[int]]()
    for problem in problems:
        # Duplicates share their token ids: a set may ask each of a few questions a thousand times.
        try:
            if problem.key not in rendered:
                rendered[problem.key] = render(problem, tokenizer, is_chat)
        except TemplateRefusal as refusal:
            bad.append(f"{problem.place}: the chat template refuses it ({refusal})")
            continue
        ids = rendered[problem.key]
        if not ids:
            bad.append(f"{problem.place}: the prompt is empty")
        elif len(ids) > rules.max_prompt_tokens:
            longest = max(longest, len(ids))
            too_long.append(f"{problem.place}: a prompt of {len(ids)} tokens")
        else:
            prompts.append(Prompt(ids, problem, len(prompts)))
    counts.solutions = sum(prompt.problem.solution_dropped for prompt in prompts)
    counts.prompts, counts.bad, counts.too_long = len(prompts), len(bad), len(too_long)
    if (bad or too_long) and rules.on_bad_row == "error":
        way_out = "set data.on_bad_row=skip to go without them"
        if too_long:
            way_out += (
                f"; {len(too_long)} are longer than data.max_prompt_tokens="
                f"{rules.max_prompt_tokens}, the longest has {longest} tokens"
            )
        raise ConfigError(
            f"{len(bad) + len(too_long)} of {counts.rows} {name} rows cannot be used: "
            f"{_first([*bad, *too_long])}; {way_out}"
        )
    if not prompts:
        reasons = [*bad, *too_long] or (["the task gave no rows"] if counts.rows == 0 else [])
        why = f": {_first(reasons)}" if reasons else ""
        raise ConfigError(f"the task has no {name} prompt left: {counts.describe(rules)}{why}")
    return prompts, counts


def check_embedded(
    prompts: Iterable[Sequence[int]], tokenizer: PreTrainedTokenizerBase, vocabulary: int, name: str
) -> None:
    """Checks that the model has an embedding for each token of the prompts.

    Args:
        prompts: the token ids of each prompt.
        tokenizer: the tokenizer that made them. The error names tokens with it.
        vocabulary: the number of tokens that the model has embeddings for.
        name: the name of the prompts in errors.

    Raises:
        ConfigError: a token has no embedding.
    """
    unknown = sorted({token for ids in prompts for token in ids if token >= vocabulary})
    if unknown:
        named = [f"{tokenizer.convert_ids_to_tokens(token)} ({token})" for token in unknown]
        raise ConfigError(
            f"model.path: the {name} prompts have tokens that the model has no embedding for, its "
            f"vocab_size is {vocabulary}: {_first(named)}; give the model these embeddings "
            "(resize_token_embeddings), or a tokenizer and chat template without such tokens"
        )


def fingerprint(prompts: Iterable[Prompt]) -> int:
    """Returns a checksum of the prompts, their answers and their order."""
    checksum = 0
    for prompt in prompts:
        content = repr((prompt.token_ids, prompt.problem.answer))
        checksum = zlib.crc32(content.encode(), checksum)
    return checksum


class TemplateRefusal(ValueError):
    """The chat template cannot make a prompt of a conversation. The message says why."""


def uses_chat(tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat) -> bool:
    """Returns whether prompts are made with the tokenizer's chat template.

    Raises:
        ConfigError: the format asks for a chat template, but the tokenizer has none.
    """
    has_template = tokenizer.chat_template is not None
    if prompt_format == "chat" and not has_template:
        raise ConfigError(
            "data.prompt_format=chat: the tokenizer has no chat template; use plain, or auto"
        )
    return has_template and prompt_format != "plain"


def render(problem: Problem, tokenizer: PreTrainedTokenizerBase, is_chat: bool) -> list[int]:
    """Returns the token ids of a prompt.

    The text is made by the tokenizer's chat template, or by joining the messages.

    Raises:
        TemplateRefusal: the chat template raises an error.
    """
    if is_chat:
        try:
            text = tokenizer.apply_chat_template(
                problem.messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:  # a template may refuse some roles, for example
            raise TemplateRefusal(error) from error
        except Exception as error:  # the template is foreign code, so it may raise anything
            raise TemplateRefusal(f"{type(error).__name__}: {error}") from error
    else:
        text = "\n\n".join(message["content"] for message in problem.messages)
    return tokenizer.encode(text, add_special_tokens=not is_chat)


def _without_duplicates(
    problems: Sequence[Problem], rule: Duplicates, counts: PromptCounts, name: str
) -> Sequence[Problem]:
    """Returns the problems that stay, and counts the duplicates.

    This runs before anything is tokenized, because there may be millions of duplicates.
    """
    first: dict[tuple, Problem] = {}
    repeated = []
    for problem in problems:
        original = first.setdefault(problem.key, problem)
        if original is not problem:
            repeated.append((problem, original))
    counts.duplicates = len(repeated)
    counts.conflicting = sum(problem.answer != original.answer for problem, original in repeated)
    if repeated and rule == "error":
        places = [f"{problem.place}: asked in {original.place}" for problem, original in repeated]
        raise ConfigError(
            f"{len(repeated)} of {counts.rows} {name} rows are duplicates, {counts.conflicting} of "
            f"them with another answer: {_first(places)}; set data.duplicates=drop or keep"
        )
    return list(first.values()) if rule == "drop" else problems


def _first(reasons: Sequence[str]) -> str:
    more = len(reasons) - _SHOWN
    return "; ".join(reasons[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
