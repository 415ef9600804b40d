"""The LightningDataModule. Its data are rollouts: one epoch of Lightning is one rollout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from stapo_pl.core.batches import MicroBatch, ValidationBatch
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding, Prompt, Trajectory
from stapo_pl.core.world import World
from stapo_pl.evaluation.validation import Validation
from stapo_pl.policy.endings import end_tokens
from stapo_pl.rewards.grading.grader import Grader, Grading
from stapo_pl.rollout.collector import Collector, Generate
from stapo_pl.rollout.limits import check_limits, check_room
from stapo_pl.rollout.prompts import (
    Duplicates,
    OnBadRow,
    PromptFormat,
    PromptRules,
    fingerprint,
)
from stapo_pl.rollout.pruning import Pruning
from stapo_pl.rollout.rules import RolloutRules
from stapo_pl.rollout.sets import PromptSets
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.rollout.source import RolloutSource
from stapo_pl.rollout.stream import PromptStream
from stapo_pl.tasks.base import Task
from stapo_pl.tasks.benchmark import Benchmark
from stapo_pl.training.events import Events, Phase
from stapo_pl.training.loader import SizedLoader
from stapo_pl.training.loop import Rollouts
from stapo_pl.training.scoring import OldLogprobs


class RolloutDataModule(L.LightningDataModule):
    """Yields the micro-batches of one rollout after another.

    Sizes count prompts on all ranks together. `trainer.accumulate_grad_batches` is the number of
    micro-batches that a mini-batch is cut into on each rank.

    Args:
        task: the task, which gives prompts, answers and the reward.
        prompts_per_rollout: the number of prompts that a rollout trains on.
        group_size: the number of completions of each prompt.
        prompts_per_mini_batch: the number of prompts of one optimizer step. It must divide
            `prompts_per_rollout`.
        epochs_per_rollout: the number of times that a rollout is trained on.
        max_prompt_tokens: the largest number of tokens of a prompt.
        on_bad_row: what happens to rows that cannot be read and to prompts that are too long:
            `error` stops, `skip` leaves them out.
        duplicates: what happens to rows that ask the same as an earlier one: `keep`, `drop` or
            `error`.
        prompt_format: `chat` uses the tokenizer's chat template, `plain` writes plain text for base
            models, and `auto` uses the template if there is one.
        max_new_tokens: the largest number of tokens of a response.
        temperature: the temperature of the rollouts, above 0. All statistics use it too.
        top_p: the share of probability that can be drawn in rollouts, 0 < top_p <= 1.
        top_k: the number of tokens that can be drawn in rollouts. 0 allows all.
        stop_token_ids: tokens that end a response, in validation too. The end tokens that the
            model's files name always do.
        old_logprobs: the old log-probabilities in the ratio: `recompute` makes a pass of the
            policy, and `sampler` uses those of the sampler, which saves this pass.
        max_tokens_per_micro_batch: the largest size of a micro-batch in tokens, with padding. It
            then decides how many there are, in place of `accumulate_grad_batches`.
        prune: whether sequences that cannot teach have no pass. The gradient is the same.
        prune_sample: the share of tokens of such sequences that curves are computed from.
        validation: the settings of validations.
        benchmarks: what is validated on, by name. None is the task's own validation problems.
        grading: the settings of grading, such as time limits.
        seed: the seed of all random choices.

    Raises:
        ConfigError: the sizes do not divide, or a value is out of range.
    """

    def __init__(
        self,
        task: Task,
        prompts_per_rollout: int = 64,
        group_size: int = 8,
        prompts_per_mini_batch: int = 32,
        epochs_per_rollout: int = 1,
        max_prompt_tokens: int = 1024,
        on_bad_row: OnBadRow = "error",
        duplicates: Duplicates = "keep",
        prompt_format: PromptFormat = "auto",
        max_new_tokens: int = 1024,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        stop_token_ids: list[int] | None = None,
        old_logprobs: OldLogprobs = "recompute",
        max_tokens_per_micro_batch: int | None = None,
        prune: bool = True,
        prune_sample: float = 0.05,
        validation: Validation = Validation(),  # noqa: B008
        benchmarks: dict[str, Benchmark] | None = None,
        grading: Grading = Grading(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.task, self.seed = task, seed
        self.sizes = BatchSizes(
            prompts_per_rollout, group_size, prompts_per_mini_batch, epochs_per_rollout
        )
        self.max_prompt_tokens, self.token_budget = max_prompt_tokens, max_tokens_per_micro_batch
        self.prompt_rules = PromptRules(max_prompt_tokens, on_bad_row, duplicates, prompt_format)
        self.decoding = Decoding(max_new_tokens, temperature, top_p, top_k)
        self.stop_token_ids, self.old_logprobs = stop_token_ids or [], old_logprobs
        self.pruning = Pruning(prune_sample, seed) if prune else None
        self.validation, self.grading = validation, grading
        self.benchmarks = benchmarks or {task.name: Benchmark(task, validation.samples)}
        self.longest_response = max(max_new_tokens, validation.limit(max_new_tokens))
        # True if the user named the checkpoint: it may be meant to go on with other data.
        self.takes_other_data = False
        check_limits(max_prompt_tokens, self.decoding)

    def connect(
        self,
        generate: Generate,
        tokenizer: PreTrainedTokenizerBase,
        model_config: PreTrainedConfig,
        model_path: str,
        rules: RolloutRules,
        can_prune: bool,
        sees_all_tokens: bool,
        events: Events,
    ) -> None:
        """Hands over what the data needs to know of the policy. Each run begins with this.

        Args:
            generate: the function that samples completions from the present policy.
            tokenizer: the tokenizer of the policy.
            model_config: the configuration of the policy.
            model_path: the model folder or hub name, whose files name the end tokens.
            rules: the rules that the objective sets for rollouts.
            can_prune: whether sequences without advantage have no gradient.
            sees_all_tokens: whether these too have a pass without gradient before each step.
            events: the object that passes events to callbacks.
        """
        self.generate, self.rules, self.events = generate, rules, events
        self.cursor, self.can_prune, self.sees_all_tokens = 0, can_prune, sees_all_tokens
        self.tokenizer, self.model_config, self.model_path = tokenizer, model_config, model_path

    @property
    def micro_batches_per_step(self) -> int:
        """The number of micro-batches of a mini-batch on each rank, or the largest number."""
        return self.trainer.accumulate_grad_batches

    def setup(self, stage: str) -> None:
        """Reads the prompts, checks sizes, and starts the processes that grade.

        Raises:
            ConfigError: sizes do not fit the run, or `rollout/prompts.py` refuses the prompts.
        """
        trainer, tokenizer, most = self.trainer, self.tokenizer, self.micro_batches_per_step
        self.sizes.check_ranks(trainer.world_size, None if self.token_budget else most)
        self.sizes.check_validation(trainer.val_check_interval, most)
        text_config = self.model_config.get_text_config()
        positions = text_config.max_position_embeddings
        check_room(self.max_prompt_tokens, self.longest_response, positions)
        self.prompts = PromptSets(
            self.task, self.benchmarks, tokenizer, self.prompt_rules, text_config.vocab_size
        )
        self.fingerprint = fingerprint(self.prompts.train)
        self.end_tokens = end_tokens(
            self.model_path, tokenizer, self.model_config, self.stop_token_ids
        )
        self._check_ranks_agree()
        self.grader = Grader(
            [self.task.reward, *(b.task.reward for b in self.benchmarks.values())],
            self.grading,
            Path(trainer.log_dir or trainer.default_root_dir),
            trainer.num_devices,
        )
        self.grader.start()
        self.collector = Collector(
            self.generate,
            self.grader.judging,
            tokenizer,
            lambda name, done, total: self.events.tell(Phase(name, done, total)),
        )
        source = RolloutSource(
            PromptStream(self.prompts.train, self.seed),
            self.collector,
            self.task.reward,
            self.rules,
            self.decoding,
            self.sizes,
            self.seed,
        )
        # With dynamic sampling all groups teach, so that nothing is left out.
        prunes = self.pruning and self.can_prune and self.rules.dynamic_sampling is None
        pruning = replace(self.pruning, needs_sample=not self.sees_all_tokens) if prunes else None
        most = self.micro_batches_per_step
        self.rollouts = Rollouts(source, most, self.token_budget, self.events, pruning)

    def teardown(self, stage: str) -> None:
        self.grader.close()

    def describe(self) -> str:
        """Returns lines for people: the sizes of the run, and what became of its data."""
        run, most = self.trainer, self.micro_batches_per_step
        how = (run.world_size, most, run.max_epochs, self.token_budget, len(self.prompts.train))
        ends = f"ends at     {self.end_tokens}"
        return "\n".join([self.sizes.describe(*how), ends, *self.prompts.describe()])

    def train_dataloader(self) -> SizedLoader:
        length = self.sizes.steps_per_rollout * self.micro_batches_per_step
        return SizedLoader(length, self._train_batches)

    def val_dataloader(self) -> SizedLoader:
        return SizedLoader(sum(self._validation_counts().values()), self._validation_batches)

    def _validation_counts(self) -> dict[str, int]:
        """Returns the number of validation batches of each benchmark on each rank."""
        return {
            name: self.validation.count_batches(len(prompts), self.trainer.world_size)
            for name, prompts in self.prompts.validation.items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {"cursor": self.cursor, "fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning calls this after `setup`, which has read the data.

        Raises:
            ConfigError: the checkpoint was written with other data, and it was found by `last`.
        """
        self.cursor = state_dict["cursor"]
        if state_dict["fingerprint"] == self.fingerprint:
            return
        differ = f"the training prompts or answers of {self.task.source} are not the checkpoint's"
        if not self.takes_other_data:
            raise ConfigError(
                f"ckpt_path=last: {differ}; give the same data (task.path), name the checkpoint "
                "in ckpt_path to go on all the same, or leave ckpt_path out to start a new run"
            )
        rank_zero_warn(f"{differ}; going on with the new ones")

    def _train_batches(self) -> Iterator[MicroBatch | None]:
        """Yields one rollout. The cursor moves as soon as the rollout is collected."""
        run = self.trainer
        for micro in self.rollouts.batches(
            self.cursor, run.global_step, run.current_epoch, run.strategy.root_device
        ):
            if micro is not None:
                self.cursor = micro.mini_batch.rollout.rollout.cursor
            yield micro

    def _check_ranks_agree(self) -> None:
        """Checks that ranks make equally many batches. Otherwise they wait for ever."""
        World().check_equal(
            {
                **self.prompts.checksums(),
                "number of micro-batches a rollout": len(self.train_dataloader()),
                "number of rollouts": self.trainer.max_epochs,
            },
            self.trainer.strategy.root_device,
        )

    def _validation_batches(self) -> Iterator[ValidationBatch]:
        """Validates this rank's share of the prompts, with the same random numbers every time."""
        for name, count in self._validation_counts().items():
            benchmark = self.benchmarks[name]
            # Every benchmark numbers its prompts from 0. The name makes their seeds differ.
            key = () if benchmark.task is self.task else (name,)
            yield from self.validation.batches(
                name,
                self.prompts.validation[name][World().rank :: World().size],
                count,
                benchmark.samples,
                self.decoding.max_new_tokens,
                partial(self._collect_validation, benchmark.task, key),
            )

    def _collect_validation(
        self,
        task: Task,
        key: tuple[str, ...],
        prompts: Sequence[Prompt],
        group_size: int,
        decoding: Decoding,
    ) -> list[list[Trajectory]]:
        """Collects groups without shaping their rewards, because a validation measures the task."""
        key = ("validation", *key)
        return self.collector.collect(
            prompts, group_size, decoding, task.reward, RolloutRules(), key[0], (self.seed, *key)
        )
