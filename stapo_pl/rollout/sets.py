"""The prompts of a run: one set for training, and one set for each benchmark of the validation."""

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
        task: the task that the policy is trained on.
        benchmarks: the tasks that the policy is validated on, by name.
        tokenizer: the tokenizer of the policy.
        rules: which problems become prompts.
        vocabulary: the number of tokens that the policy has embeddings for.

    Raises:
        ConfigError: `prompts.make_prompts` or `prompts.check_embedded` refuses a set.
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
        """What happened to the rows of each set."""
        problems = task.train_problems()
        self.train, self.counts["training"] = make_prompts(problems, tokenizer, rules, "training")
        asked = any(benchmark.task is task for benchmark in benchmarks.values())
        self.unused = 0 if asked else problems.held_out
        """The problems that are held out of training, but not validated on."""
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
        """Returns numbers that must be the same on all ranks.

        Ranks that read different prompts make different numbers of calls, and then the run hangs.
        """
        validation = [prompt for prompts in self.validation.values() for prompt in prompts]
        return {
            "number of training prompts": len(self.train),
            "number of validation prompts": len(validation),
            "training prompts and answers (their checksum)": fingerprint(self.train),
            "validation prompts and answers (their checksum)": fingerprint(validation),
        }

    def describe(self) -> list[str]:
        """Returns lines that say what was read, and which answers no response can match."""
        lines = [f"{name:<11} {c.describe(self._rules)}" for name, c in self.counts.items()]
        if self.unused:
            lines.append(
                f"unused      {self.unused} problems that are held out, as a run validates on its "
                "benchmarks: task.validation_size=0 trains on them"
            )
        bad = (
            unmatchable(self._rewards[name], [prompt.problem for prompt in prompts])
            for name, prompts in self._all()
        )
        return lines + [line for line in bad if line]

    def _all(self) -> Iterator[tuple[str, list[Prompt]]]:
        yield "training", self.train
        yield from self.validation.items()
