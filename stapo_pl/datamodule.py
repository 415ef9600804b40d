"""The data of a run are its rollouts: one epoch of the train loader is one rollout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import lightning as L
import torch

from stapo_pl.errors import ConfigError
from stapo_pl.metrics import rollout_metrics
from stapo_pl.module import PolicyModule
from stapo_pl.prompts import LongPrompts, PromptStream, tokenize
from stapo_pl.rollout import Generate, Rollout, make_rollout, micro_batches, mini_batches, sample_groups
from stapo_pl.seeding import reseed
from stapo_pl.tasks.base import Task
from stapo_pl.types import (
    Decoding,
    MicroBatch,
    Prompt,
    Tokens,
    TokenStatistics,
    ValidationBatch,
)
from stapo_pl.world import World


@dataclass
class Validation:
    """How validation samples.

    Args:
        samples: sampled responses a prompt, k of avg@k and pass@k.
        temperature: of those responses.
        top_p: likewise.
        prompts_per_batch: prompts that are sampled at a time.
    """

    samples: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    prompts_per_batch: int = 64


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
    """Samples prompts, scores the responses and yields them as micro-batches, K optimizer steps a rollout.

    All sizes are in prompts, over all ranks; `trainer.accumulate_grad_batches` is the number of micro-batches that a
    mini-batch is cut into on each rank.

    Args:
        task: where prompts, answers and rewards come from.
        prompts_per_rollout: prompts that a rollout trains on.
        group_size: responses to each of them.
        prompts_per_mini_batch: prompts of one optimizer step; it divides `prompts_per_rollout`.
        epochs_per_rollout: how often a rollout is trained on.
        max_prompt_tokens: longest prompt.
        long_prompts: what to do about longer ones: `error`, or `drop` and count them.
        max_new_tokens: longest response.
        temperature: of the rollouts; 0 < temperature. All statistics are taken at it.
        validation: how validation samples.
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
        long_prompts: LongPrompts = "error",
        max_new_tokens: int = 1024,
        temperature: float = 1.0,
        validation: Validation = Validation(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.task = task
        self.prompts_per_rollout = prompts_per_rollout
        self.group_size = group_size
        self.prompts_per_mini_batch = prompts_per_mini_batch
        self.epochs_per_rollout = epochs_per_rollout
        self.max_prompt_tokens = max_prompt_tokens
        self.long_prompts: LongPrompts = long_prompts
        self.decoding = Decoding(max_new_tokens, temperature)
        self.validation = validation
        self.seed = seed
        self.cursor = 0
        self.world = World()
        self.rollout_metrics: dict[str, float] = {}
        # Callbacks put themselves in here at setup: who samples, who wants to see progress and rollouts.
        self.generate: Generate | None = None
        self.on_phase: Callable[[str, int, int], None] = lambda phase, done, total: None
        self.on_rollout: Callable[[Rollout], None] = lambda rollout: None
        self._check_sizes()

    def _check_sizes(self) -> None:
        for name in (
            "prompts_per_rollout", "group_size", "prompts_per_mini_batch", "epochs_per_rollout",
            "max_prompt_tokens",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        if self.decoding.max_new_tokens < 1:
            raise ConfigError(f"data.max_new_tokens must be at least 1, got {self.decoding.max_new_tokens}")
        if not self.decoding.temperature > 0:
            raise ConfigError(
                f"data.temperature must be greater than 0 (a greedy rollout explores nothing), "
                f"got {self.decoding.temperature}"
            )
        if self.group_size < 2:
            raise ConfigError(
                f"data.group_size must be at least 2, got {self.group_size}: a group-relative advantage compares "
                "the responses to one prompt"
            )
        if self.prompts_per_rollout % self.prompts_per_mini_batch:
            raise ConfigError(
                f"data.prompts_per_mini_batch={self.prompts_per_mini_batch} does not divide "
                f"data.prompts_per_rollout={self.prompts_per_rollout}"
            )

    @property
    def steps_per_rollout(self) -> int:
        """K, the optimizer steps of a rollout."""
        return self.epochs_per_rollout * self.mini_batches_per_rollout

    @property
    def mini_batches_per_rollout(self) -> int:
        return self.prompts_per_rollout // self.prompts_per_mini_batch

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
            ConfigError: see the class, and `prompts.tokenize`.
        """
        world_size = self.trainer.world_size
        if self.prompts_per_mini_batch % world_size:
            raise ConfigError(
                f"data.prompts_per_mini_batch={self.prompts_per_mini_batch} does not divide among {world_size} ranks"
            )
        samples = self.prompts_per_mini_batch * self.group_size // world_size
        if self.micro_batches_per_step > samples:
            raise ConfigError(
                f"trainer.accumulate_grad_batches={self.micro_batches_per_step} cuts the {samples} samples of a "
                "mini-batch on a rank into more micro-batches than there are samples"
            )
        tokenizer = self.module.tokenizer
        room = self.module.max_positions - self.max_prompt_tokens - self.decoding.max_new_tokens
        if room < 0:
            raise ConfigError(
                f"data.max_prompt_tokens={self.max_prompt_tokens} plus data.max_new_tokens="
                f"{self.decoding.max_new_tokens} exceeds the {self.module.max_positions} positions of the model "
                f"by {-room}"
            )
        limits = (tokenizer, self.max_prompt_tokens, self.long_prompts)
        train, train_dropped = tokenize(self.task.train_problems(), *limits, "training")
        self.validation_prompts, dropped = tokenize(
            self.task.validation_problems(), *limits, "validation"
        )
        self.stream = PromptStream(train, self.seed)
        self.dropped_prompts = {"training": train_dropped, "validation": dropped}

    def describe(self) -> str:
        """The resolved arithmetic of a rollout, for people."""
        ranks = self.trainer.world_size
        samples = self.prompts_per_rollout * self.group_size
        lines = [
            f"rollout     {self.prompts_per_rollout} prompts x {self.group_size} responses = {samples} samples"
            f" ({samples // ranks} a rank on {ranks} rank{'s' if ranks > 1 else ''})",
            f"updates     {self.steps_per_rollout} optimizer steps a rollout = {self.mini_batches_per_rollout} "
            f"mini-batches of {self.prompts_per_mini_batch} prompts "
            f"({self.prompts_per_mini_batch * self.group_size} samples) x {self.epochs_per_rollout} epoch(s)",
            f"micro       {self.micro_batches_per_step} micro-batch(es) a step and rank, of about "
            f"{self.prompts_per_mini_batch * self.group_size / ranks / self.micro_batches_per_step:g} samples",
            f"run         {self.trainer.max_epochs} rollouts = "
            f"{self.trainer.max_epochs * self.steps_per_rollout} optimizer steps",
            f"prompts     {len(self.stream.prompts)} training, {len(self.validation_prompts)} validation",
        ]
        lines += [
            f"dropped     {count} {name} prompts longer than {self.max_prompt_tokens} tokens"
            for name, count in self.dropped_prompts.items()
            if count
        ]
        return "\n".join(lines)

    def train_dataloader(self) -> _Loader:
        return _Loader(self.steps_per_rollout * self.micro_batches_per_step, self._train_batches)

    def val_dataloader(self) -> _Loader:
        per_batch = self.validation.prompts_per_batch * self.trainer.world_size
        return _Loader(-(-len(self.validation_prompts) // per_batch), self._validation_batches)

    def state_dict(self) -> dict[str, int]:
        return {"cursor": self.cursor}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.cursor = state_dict["cursor"]

    def _train_batches(self) -> Iterator[MicroBatch]:
        """One rollout: sample, score, then hand out its mini-batches, each weighted as it is reached."""
        objective, version = self.module.objective, self.trainer.global_step
        self.rollout_start = start = time.perf_counter()
        rollout = self._sample_rollout()
        self.cursor = rollout.cursor
        # Right after sampling, so that whatever is random in the update depends on nothing that came before.
        reseed(self.seed, "update", self.trainer.current_epoch, self.world.rank)
        sampled = time.perf_counter()
        batches = [
            micro_batches(
                trajectories,
                self.micro_batches_per_step,
                self.module.tokenizer.pad_token_id,
                self.decoding.temperature,
            )
            for trajectories in mini_batches(
                rollout, self.prompts_per_rollout, self.mini_batches_per_rollout
            )
        ]
        behavior = [self._score(micros, i, len(batches)) for i, micros in enumerate(batches)]
        scored = time.perf_counter()
        self.rollout_metrics = rollout_metrics(
            rollout, [m.tokens for micros in batches for m in micros], self.world, self.module.device
        ) | {
            "time/rollout_s": sampled - start,
            "time/score_s": scored - sampled,
        }
        self.on_rollout(rollout)
        for step in range(self.steps_per_rollout):
            index = step % self.mini_batches_per_rollout
            statistics = behavior[index]
            if step and objective.needs_current_statistics:
                statistics = self._statistics(batches[index])
            micros = self._weigh(batches[index], statistics, behavior[index])
            for micro in micros:
                micro.version, micro.mini_batch = version, step
                self.on_phase("update", step, self.steps_per_rollout)
                yield micro

    def _sample_rollout(self) -> Rollout:
        decoding = self.decoding
        sample = partial(
            sample_groups,
            group_size=self.group_size,
            generate=partial(self.generate, progress=partial(self.on_phase, "rollout")),
            decoding=decoding,
            task=self.task,
            objective=self.module.objective,
            tokenizer=self.module.tokenizer,
            seed_key=(self.seed, "rollout"),
        )
        return make_rollout(
            self.stream,
            self.cursor,
            self.prompts_per_rollout,
            sample,
            self.module.objective,
            self.world,
            self.module.device,
        )

    def _score(self, micros: list[MicroBatch], index: int, count: int) -> TokenStatistics:
        """Fills in old (and reference) log-probabilities of a mini-batch; returns its statistics."""
        self.on_phase("score", index, count)
        statistics = self._statistics(micros)
        sizes = [len(micro.tokens) for micro in micros]
        for micro, logprobs_T in zip(micros, statistics.logprobs_T.split(sizes), strict=True):
            micro.tokens.old_logprobs_T = logprobs_T
            if self.module.objective.needs_reference:
                micro.tokens.reference_logprobs_T = self.module.reference_statistics(
                    micro
                ).logprobs_T
        return statistics

    def _statistics(self, micros: list[MicroBatch]) -> TokenStatistics:
        """Statistics of a whole mini-batch under the policy as it is now, without gradient."""
        return TokenStatistics.cat([self.module.statistics(micro) for micro in micros])

    def _weigh(
        self, micros: list[MicroBatch], statistics: TokenStatistics, behavior: TokenStatistics
    ) -> list[MicroBatch]:
        """Decides the weights of a mini-batch over all its micro-batches and ranks."""
        device = self.module.device
        micros = [self.module.transfer_batch_to_device(micro, device, 0) for micro in micros]
        tokens = Tokens.cat([micro.tokens for micro in micros])
        self.module.objective.set_weights(
            tokens, statistics, self.world, self.decoding.max_new_tokens
        )
        self.module.observe_selection(tokens, statistics, behavior)
        empty = int(self.world.sum(torch.tensor(len(tokens), device=device))) == 0
        for micro, part in zip(
            micros, tokens.split([len(micro.tokens) for micro in micros]), strict=True
        ):
            micro.tokens, micro.empty = part, empty
        return micros

    def _validation_batches(self) -> Iterator[ValidationBatch]:
        """Greedy and sampled responses to the validation prompts, the same random numbers every time."""
        per_batch = self.validation.prompts_per_batch
        mine = self.validation_prompts[self.world.rank :: self.world.size]
        greedy = Decoding(self.decoding.max_new_tokens, temperature=0.0)
        sampled = Decoding(
            self.decoding.max_new_tokens, self.validation.temperature, self.validation.top_p
        )
        for i in range(len(self.val_dataloader())):
            prompts = mine[i * per_batch : (i + 1) * per_batch]
            yield ValidationBatch(
                greedy_correct_P=self._correct(prompts, 1, greedy)[:, 0],
                correct_PG=self._correct(prompts, self.validation.samples, sampled),
            )

    def _correct(self, prompts: list[Prompt], samples: int, decoding: Decoding) -> torch.Tensor:
        groups = sample_groups(
            prompts,
            samples,
            generate=partial(self.generate, progress=partial(self.on_phase, "validation")),
            decoding=decoding,
            task=self.task,
            objective=self.module.objective,
            tokenizer=self.module.tokenizer,
            seed_key=(self.seed, "validation"),
        )
        return torch.tensor([[t.correct for t in group] for group in groups], dtype=torch.bool).view(-1, samples)
