"""The data of a run are its rollouts: one epoch of the train loader is one rollout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from stapo_pl.core.batches import MicroBatch, TokenStatistics, ValidationBatch
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.seeding import reseed
from stapo_pl.core.types import Decoding, Problem
from stapo_pl.core.world import World
from stapo_pl.evaluation.validation import Sampling, Validation
from stapo_pl.policy.endings import end_tokens
from stapo_pl.rewards import Response, Reward, Score
from stapo_pl.rewards.golds import unmatchable
from stapo_pl.rewards.grading.grader import Grader, Grading
from stapo_pl.rollout.metrics import rollout_metrics
from stapo_pl.rollout.prompts import (
    Duplicates,
    OnBadRow,
    PromptFormat,
    PromptRules,
    PromptStream,
    check_embedded,
    fingerprint,
    make_prompts,
)
from stapo_pl.rollout.rollout import (
    Generate,
    Rollout,
    make_rollout,
    micro_batches,
    mini_batches,
    sample_groups,
)
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.tasks.base import Task
from stapo_pl.tasks.benchmark import Benchmark
from stapo_pl.training.module import PolicyModule
from stapo_pl.training.scoring import (
    score,
    score_reference,
    statistics,
    take_sampler_logprobs,
    weigh,
)


class _Loader:
    """A sized iterable that makes its batches when they are asked for.

    Sized, so that Lightning does not fetch ahead, which would make every batch one step stale.
    """

    def __init__(self, length: int, make: Callable[[], Iterator]) -> None:
        self.length, self.make = length, make

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator:
        yield from self.make()


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
        old_logprobs: Literal["recompute", "sampler"] = "recompute",
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
        self.world = World()
        self.rollout_metrics: dict[str, float] = {}
        self._grade_seconds = 0.0
        # Callbacks put themselves in here at setup: who samples (and rests when all
        # is sampled), who shows progress and rollouts.
        self.generate: Generate | None = None
        self.on_sampled: Callable[[], None] = lambda: None
        self.on_phase: Callable[[str, int, int], None] = lambda phase, done, total: None
        self.on_rollout: Callable[[Rollout], None] = lambda rollout: None
        for name, value in (
            ("max_prompt_tokens", max_prompt_tokens),
            ("max_new_tokens", max_new_tokens),
        ):
            if value < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {value}")
        if not temperature > 0:
            raise ConfigError(
                "data.temperature must be greater than 0 (a greedy rollout explores nothing), "
                f"got {temperature}"
            )
        if not 0 < top_p <= 1 or top_k < 0:
            raise ConfigError(
                f"data needs 0 < top_p <= 1 and top_k >= 0, got top_p={top_p}, top_k={top_k}"
            )

    @property
    def micro_batches_per_step(self) -> int:
        """ACC, on each rank."""
        return self.trainer.accumulate_grad_batches

    @property
    def module(self) -> PolicyModule:
        return self.trainer.lightning_module

    def setup(self, stage: str) -> None:
        """Tokenizes the prompts and checks sizes against the number of ranks and micro-batches.

        Raises:
            ConfigError: see the class and `prompts.make_prompts`; or the rollouts are drawn from a
                distribution that the objective's ratio is not to.
        """
        self.sizes.check_ranks(self.trainer.world_size, self.micro_batches_per_step)
        self.sizes.check_validation(self.trainer.val_check_interval, self.micro_batches_per_step)
        self._check_ratio()
        tokenizer, config = self.module.tokenizer, self.module.model_config
        room = self.module.max_positions - self.max_prompt_tokens - self.decoding.max_new_tokens
        if room < 0:
            raise ConfigError(
                f"data.max_prompt_tokens={self.max_prompt_tokens} plus data.max_new_tokens="
                f"{self.decoding.max_new_tokens} exceeds the {self.module.max_positions} positions "
                f"of the model by {-room}"
            )
        train, counts = make_prompts(
            self.task.train_problems(), tokenizer, self.prompt_rules, "training"
        )
        self.counts, self.validation_prompts = {"training": counts}, {}
        for name, benchmark in self.benchmarks.items():
            label = "validation" if benchmark.task is self.task else name
            self.validation_prompts[name], self.counts[label] = make_prompts(
                benchmark.task.validation_problems(), tokenizer, self.prompt_rules, label
            )
        vocabulary = config.get_text_config().vocab_size
        for name, prompts in {"training": train, **self.validation_prompts}.items():
            check_embedded((p.token_ids for p in prompts), tokenizer, vocabulary, name)
        self.end_tokens = end_tokens(self.module.path, tokenizer, config, self.stop_token_ids)
        self.stream, self.fingerprint = PromptStream(train, self.seed), fingerprint(train)
        self._check_ranks_agree()
        self.grader = Grader(
            [self.task.reward, *(b.task.reward for b in self.benchmarks.values())],
            self.grading,
            Path(self.trainer.log_dir or self.trainer.default_root_dir),
            self.trainer.num_devices,
        )
        self.grader.start()

    def teardown(self, stage: str) -> None:
        self.grader.close()

    def describe(self) -> str:
        """The resolved arithmetic of the run, for people."""
        trainer = self.trainer
        lines = [
            self.sizes.describe(
                trainer.world_size, self.micro_batches_per_step, trainer.max_epochs
            ),
            f"ends at     {self.end_tokens}",
        ]
        lines += [
            f"{name:<11} {counts.describe(self.prompt_rules)}"
            for name, counts in self.counts.items()
        ]
        lines += filter(None, self._unmatchable())
        return "\n".join(lines)

    def _unmatchable(self) -> Iterator[str]:
        """Of each set of problems: those whose answer the reward can call right in no response."""
        train = [prompt.problem for prompt in self.stream.prompts]
        yield unmatchable(self.task.reward, train)
        for name, prompts in self.validation_prompts.items():
            reward = self.benchmarks[name].task.reward
            yield unmatchable(reward, [prompt.problem for prompt in prompts])

    def train_dataloader(self) -> _Loader:
        return _Loader(
            self.sizes.steps_per_rollout * self.micro_batches_per_step, self._train_batches
        )

    def val_dataloader(self) -> _Loader:
        return _Loader(sum(self._validation_counts().values()), self._validation_batches)

    def _validation_counts(self) -> dict[str, int]:
        """Batches of each task, on each rank."""
        return {
            name: self.validation.count_batches(len(prompts), self.trainer.world_size)
            for name, prompts in self.validation_prompts.items()
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
        """One rollout: sample, score, then hand out its mini-batches, each weighed in its turn."""
        module, sizes, version = self.module, self.sizes, self.trainer.global_step
        self.rollout_start = start = time.perf_counter()
        self._grade_seconds = 0.0
        rollout = make_rollout(
            self.stream,
            self.cursor,
            sizes.prompts_per_rollout,
            self._sampling("rollout", self.task, (), sizes.group_size, self.decoding),
            module.objective,
            self.world,
            module.device,
        )
        self.on_sampled()
        self.cursor = rollout.cursor
        # Right after sampling: what is random in the update depends on nothing that came before.
        reseed(self.seed, "update", self.trainer.current_epoch, self.world.rank)
        sampled = time.perf_counter()

        batches = [
            micro_batches(
                trajectories,
                self.micro_batches_per_step,
                self.decoding.temperature,
            )
            for trajectories in mini_batches(rollout, sizes.prompts_per_rollout, sizes.mini_batches)
        ]
        behavior = []
        for i, micros in enumerate(batches):
            self.on_phase("score", i, len(batches))
            behavior.append(self._score(micros, first=i == 0))
            if module.objective.needs_reference:
                score_reference(micros, module)
        parts = list(self.task.reward.worst_components)
        self.rollout_metrics = rollout_metrics(rollout, parts, self.world, module.device) | {
            "time/rollout_s": sampled - start,
            "time/grade_s": self._grade_seconds,
            "time/score_s": time.perf_counter() - sampled,
        }
        self.on_rollout(rollout)

        for step in range(sizes.steps_per_rollout):
            self.on_phase("update", step, sizes.steps_per_rollout)
            index = step % sizes.mini_batches
            for micro in weigh(
                batches[index],
                behavior[index],
                module,
                first=step == 0,
                max_new_tokens=self.decoding.max_new_tokens,
            ):
                micro.version, micro.mini_batch = version, step
                yield micro

    def _score(self, micros: list[MicroBatch], first: bool) -> TokenStatistics | None:
        """Old log-probabilities of a mini-batch, and its statistics if anything needs them yet."""
        objective = self.module.objective
        if self.old_logprobs == "sampler":
            take_sampler_logprobs(micros)
            # What selects by current statistics has a pass of its own in each later mini-batch.
            asked = objective.selection is not None
            asked &= first or not objective.needs_current_statistics
            return statistics(micros, self.module) if asked else None
        # The first update still sees the policy that made the rollout: unless anything asks before
        # it, or it drops activations, its own forward pass serves as its mini-batch's scoring pass.
        asked = objective.selection is not None or objective.correction is not None
        asked |= self.module.dropout
        if first and not asked and self.sizes.epochs_per_rollout == 1:
            return None
        return score(micros, self.module)

    def _check_ranks_agree(self) -> None:
        """Ranks with unlike numbers of batches would wait for each other for ever."""
        validation = [p for prompts in self.validation_prompts.values() for p in prompts]
        self.world.check_equal(
            {
                "number of training prompts": len(self.stream.prompts),
                "number of validation prompts": len(validation),
                "number of micro-batches a rollout": len(self.train_dataloader()),
                "number of rollouts": self.trainer.max_epochs,
                "training prompts and answers (their checksum)": self.fingerprint,
                "validation prompts and answers (their checksum)": fingerprint(validation),
            },
            self.trainer.strategy.root_device,
        )

    def _check_ratio(self) -> None:
        correction, decoding = self.module.objective.correction, self.decoding
        if correction is not None and self.old_logprobs == "sampler":
            raise ConfigError(
                "objective.correction weighs by the ratio of the policy's log-probabilities to the "
                "sampler's, which is 1 with data.old_logprobs=sampler: set one or the other"
            )
        if decoding.is_cut and (correction is None or not correction.takes_cuts):
            raise ConfigError(
                f"data.top_p={decoding.top_p} and data.top_k={decoding.top_k} cut the distribution "
                "that rollouts are drawn from, so that they are not the policy's: set data.top_p=1 "
                "data.top_k=0, or objective.correction=TokenTIS data.old_logprobs=recompute, which "
                "weighs each token by the ratio of the two"
            )

    def _grade(
        self, reward: Reward, responses: Sequence[Response], problems: Sequence[Problem]
    ) -> list[Score]:
        start = time.perf_counter()
        scores = self.grader.grade(reward, responses, problems, partial(self.on_phase, "grade"))
        self._grade_seconds += time.perf_counter() - start
        return scores

    def _sampling(
        self,
        phase: str,
        task: Task,
        seed_key: tuple[str, ...],
        group_size: int,
        decoding: Decoding,
    ) -> Sampling:
        """What samples and scores a group for each prompt of a task."""
        return partial(
            sample_groups,
            group_size=group_size,
            generate=partial(self.generate, progress=partial(self.on_phase, phase)),
            decoding=decoding,
            grade=partial(self._grade, task.reward),
            objective=self.module.objective,
            tokenizer=self.module.tokenizer,
            seed_key=(self.seed, phase, *seed_key),
        )

    def _validation_batches(self) -> Iterator[ValidationBatch]:
        """Each rank's share of the validation prompts; the same random numbers every time."""
        for name, count in self._validation_counts().items():
            task, samples = self.benchmarks[name].task, self.benchmarks[name].samples
            # Benchmarks number their prompts alike, but are to be sampled independently.
            seed_key = () if task is self.task else (name,)
            yield from self.validation.batches(
                name,
                self.validation_prompts[name][self.world.rank :: self.world.size],
                count,
                samples,
                self.decoding.max_new_tokens,
                partial(self._sampling, "validation", task, seed_key),
            )
