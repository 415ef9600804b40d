"""The data of a run are its rollouts: one epoch of the train loader is one rollout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from stapo_pl.core.batches import MicroBatch, ValidationBatch
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Completion, Decoding, Prompt, Request, Trajectory
from stapo_pl.core.world import World
from stapo_pl.evaluation.validation import Validation
from stapo_pl.policy.endings import end_tokens
from stapo_pl.rewards.grading.grader import Grader, Grading
from stapo_pl.rollout.collector import Collector, Progress
from stapo_pl.rollout.limits import check_limits, check_room
from stapo_pl.rollout.prompts import (
    Duplicates,
    OnBadRow,
    PromptFormat,
    PromptRules,
    fingerprint,
)
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


class Generator(Protocol):
    """Who samples: the sampler callback."""

    def generate(
        self, requests: Sequence[Request], decoding: Decoding, progress: Progress
    ) -> list[Completion]:
        """One completion for each request, from the policy as it is now."""


class RolloutDataModule(L.LightningDataModule):
    """Yields rollouts as micro-batches, K optimizer steps each.

    All sizes are in prompts, over all ranks; `trainer.accumulate_grad_batches` is the number of
    micro-batches that a mini-batch is cut into on each rank.

    Args:
        task: where prompts, answers and rewards come from.
        prompts_per_rollout: prompts that a rollout trains on.
        group_size: responses to each of them.
        prompts_per_mini_batch: prompts of one optimizer step; it divides `prompts_per_rollout`.
        epochs_per_rollout: how often a rollout is trained on.
        max_prompt_tokens: longest prompt.
        on_bad_row: what to do about rows that are no problem, and about longer prompts: `error`,
            or `skip` and count them.
        duplicates: what to do about prompts that ask the same again: `keep` and count them, `drop`
            all but the first, or `error`.
        prompt_format: `chat` by the tokenizer's template, `plain` text as base models want it, or
            `auto`: chat where the tokenizer has a template.
        max_new_tokens: longest response.
        temperature: of the rollouts; 0 < temperature. All statistics are taken at it.
        top_p: nucleus of the rollouts, 0 < top_p <= 1.
        top_k: of the rollouts; 0 keeps all tokens.
        stop_token_ids: end a response besides the end tokens that the model's files name (those of
            the tokenizer and of generation_config.json), in validation too.
        old_logprobs: the ratio's denominator: `recompute` it with the policy that trains, or take
            the `sampler`'s own, which saves each pass that no selection needs.
        validation: how validation samples.
        benchmarks: what is validated on, each with samples of its own; None is the task's own
            validation problems.
        grading: how responses are judged.
        seed: of everything that is drawn.

    Raises:
        ConfigError: sizes that do not divide, or are out of range.
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
        validation: Validation = Validation(),  # noqa: B008
        benchmarks: dict[str, Benchmark] | None = None,
        grading: Grading = Grading(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.task = task
        self.sizes = BatchSizes(
            prompts_per_rollout, group_size, prompts_per_mini_batch, epochs_per_rollout
        )
        self.max_prompt_tokens = max_prompt_tokens
        self.prompt_rules = PromptRules(max_prompt_tokens, on_bad_row, duplicates, prompt_format)
        self.decoding = Decoding(max_new_tokens, temperature, top_p, top_k)
        self.stop_token_ids = stop_token_ids or []
        self.old_logprobs = old_logprobs
        self.validation, self.grading = validation, grading
        self.benchmarks = benchmarks or {task.name: Benchmark(task, validation.samples)}
        self.seed = seed
        self.cursor = 0
        # Set where the checkpoint to go on from is named: it may be meant for other data.
        self.takes_other_data = False
        check_limits(max_prompt_tokens, self.decoding)

    def connect(
        self,
        sampler: Generator,
        tokenizer: PreTrainedTokenizerBase,
        model_config: PreTrainedConfig,
        model_path: str,
        rules: RolloutRules,
        events: Events,
    ) -> None:
        """Hands over what the data needs to know of the policy; comes before `setup`.

        Args:
            sampler: who samples.
            tokenizer: of the policy.
            model_config: of the policy.
            model_path: where its files are, which name its end tokens.
            rules: what the objective asks of a rollout.
            events: hears of what happens.
        """
        self.sampler, self.rules, self.events = sampler, rules, events
        self.tokenizer, self.model_config, self.model_path = tokenizer, model_config, model_path

    @property
    def micro_batches_per_step(self) -> int:
        """Micro-batches of a mini-batch, on each rank."""
        return self.trainer.accumulate_grad_batches

    def setup(self, stage: str) -> None:
        """Tokenizes the prompts and checks sizes against the number of ranks and micro-batches.

        Raises:
            ConfigError: see the class and `prompts.make_prompts`.
        """
        trainer, tokenizer = self.trainer, self.tokenizer
        self.sizes.check_ranks(trainer.world_size, self.micro_batches_per_step)
        self.sizes.check_validation(trainer.val_check_interval, self.micro_batches_per_step)
        text_config = self.model_config.get_text_config()
        check_room(self.max_prompt_tokens, self.decoding, text_config.max_position_embeddings)
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
            self.sampler.generate,
            self.grader.grade,
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
        self.rollouts = Rollouts(source, self.micro_batches_per_step, self.events)

    def teardown(self, stage: str) -> None:
        self.grader.close()

    def describe(self) -> str:
        """The resolved arithmetic of the run, for people."""
        trainer = self.trainer
        sizes = self.sizes.describe(
            trainer.world_size, self.micro_batches_per_step, trainer.max_epochs
        )
        return "\n".join([sizes, f"ends at     {self.end_tokens}", *self.prompts.describe()])

    def train_dataloader(self) -> SizedLoader:
        return SizedLoader(
            self.sizes.steps_per_rollout * self.micro_batches_per_step, self._train_batches
        )

    def val_dataloader(self) -> SizedLoader:
        return SizedLoader(sum(self._validation_counts().values()), self._validation_batches)

    def _validation_counts(self) -> dict[str, int]:
        """Batches of each task, on each rank."""
        return {
            name: self.validation.count_batches(len(prompts), self.trainer.world_size)
            for name, prompts in self.prompts.validation.items()
        }

    def state_dict(self) -> dict[str, int]:
        return {"cursor": self.cursor, "fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Lightning calls it after `setup`, which has read the data.

        Raises:
            ConfigError: the checkpoint was written with other data, and was not named.
        """
        self.cursor = state_dict["cursor"]
        # Checkpoints that are older than the fingerprint have none.
        if state_dict.get("fingerprint", self.fingerprint) == self.fingerprint:
            return
        differ = (
            f"the training prompts or answers of {self.task.source} differ from those that the "
            "checkpoint was written with"
        )
        if not self.takes_other_data:
            raise ConfigError(
                f"ckpt_path=last: {differ}; give the same data (task.path), name the checkpoint "
                "in ckpt_path to go on all the same, or leave ckpt_path out to start a new run"
            )
        rank_zero_warn(f"{differ}; going on with the new ones")

    def _train_batches(self) -> Iterator[MicroBatch]:
        """One rollout. The cursor moves on as soon as it is collected."""
        trainer = self.trainer
        for micro in self.rollouts.batches(
            self.cursor, trainer.global_step, trainer.current_epoch, trainer.strategy.root_device
        ):
            self.cursor = micro.mini_batch.rollout.rollout.cursor
            yield micro

    def _check_ranks_agree(self) -> None:
        """Ranks with unlike numbers of batches would wait for each other for ever."""
        World().check_equal(
            {
                **self.prompts.checksums(),
                "number of micro-batches a rollout": len(self.train_dataloader()),
                "number of rollouts": self.trainer.max_epochs,
            },
            self.trainer.strategy.root_device,
        )

    def _validation_batches(self) -> Iterator[ValidationBatch]:
        """Each rank's share of the validation prompts; the same random numbers every time."""
        world = World()
        for name, count in self._validation_counts().items():
            benchmark = self.benchmarks[name]
            # Benchmarks number their prompts alike, but are to be sampled independently.
            key = () if benchmark.task is self.task else (name,)
            yield from self.validation.batches(
                name,
                self.prompts.validation[name][world.rank :: world.size],
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
        """Groups whose rewards are as the task gives them."""
        phase = "validation"
        seed_key: tuple[int | str, ...] = (self.seed, phase, *key)
        return self.collector.collect(
            prompts, group_size, decoding, task.reward, RolloutRules(), phase, seed_key
        )
