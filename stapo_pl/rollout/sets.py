"""The prompts of a run: those it trains on, and those it is validated on."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from stapo_pl.core.types import Prompt
from stapo_pl.rewards.golds import unmatchable
from stapo_pl.rollout.prompts import (
    PromptCounts,
    PromptRules,
    check_embedded,
    fingerprint,
    make_prompts,
)
from stapo_pl.tasks.base import Task
from stapo_pl.tasks.benchmark import Benchmark


class PromptSets:
    """Reads and tokenizes all prompts of a run.

    Args:
        task: that is trained on.
        benchmarks: what is validated on, by name.
        tokenizer: of the policy.
        rules: which problems become prompts.
        vocabulary: number of tokens that the policy knows.

    Raises:
        ConfigError: see `prompts.make_prompts` and `prompts.check_embedded`.
    """

    def __init__(
        self,
        task: Task,
        benchmarks: dict[str, Benchmark],
        tokenizer: PreTrainedTokenizerBase,
        rules: PromptRules,
        vocabulary: int,
    ) -> None:
        self._rules = rules
        self._rewards = {"training": task.reward}
        self.counts: dict[str, PromptCounts] = {}
        """What became of the rows of each set."""
        self.train, self.counts["training"] = make_prompts(
            task.train_problems(), tokenizer, rules, "training"
        )
        self.validation: dict[str, list[Prompt]] = {}
        """The prompts of each benchmark."""
        for name, benchmark in benchmarks.items():
            label = "validation" if benchmark.task is task else name
            self._rewards[name] = benchmark.task.reward
            self.validation[name], self.counts[label] = make_prompts(
                benchmark.task.validation_problems(), tokenizer, rules, label
            )
        for name, prompts in self._all():
            check_embedded((p.token_ids for p in prompts), tokenizer, vocabulary, name)

    def checksums(self) -> dict[str, int]:
        """Numbers that have to be the same on all ranks; ranks with unlike numbers would hang."""
        validation = [prompt for prompts in self.validation.values() for prompt in prompts]
        return {
            "number of training prompts": len(self.train),
            "number of validation prompts": len(validation),
            "training prompts and answers (their checksum)": fingerprint(self.train),
            "validation prompts and answers (their checksum)": fingerprint(validation),
        }

    def describe(self) -> list[str]:
        """What was read, and which answers no response can match, a line each."""
        lines = [f"{name:<11} {c.describe(self._rules)}" for name, c in self.counts.items()]
        bad = (
            unmatchable(self._rewards[name], [prompt.problem for prompt in prompts])
            for name, prompts in self._all()
        )
        return lines + [line for line in bad if line]

    def _all(self) -> Iterator[tuple[str, list[Prompt]]]:
        yield "training", self.train
        yield from self.validation.items()
