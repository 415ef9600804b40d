"""The sizes of rollouts and batches, and the checks that they fit together.

Users of every framework get this arithmetic wrong once, so each check says what does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from stapo_pl.core.errors import ConfigError


@dataclass
class BatchSizes:
    """The sizes of a rollout and its mini-batches. They count prompts on all ranks together.

    Raises:
        ConfigError: a size is below 1, a group has one response, or the mini-batches do not fill
            the rollout exactly.
    """

    prompts_per_rollout: int
    group_size: int
    prompts_per_mini_batch: int
    epochs_per_rollout: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ConfigError(
                    f"data.{field.name} must be at least 1, got {getattr(self, field.name)}"
                )
        if self.group_size < 2:
            raise ConfigError(
                f"data.group_size must be at least 2, got {self.group_size}: "
                "a group-relative advantage compares the responses to one prompt"
            )
        if self.prompts_per_rollout % self.prompts_per_mini_batch:
            raise ConfigError(
                f"data.prompts_per_mini_batch={self.prompts_per_mini_batch} does not divide "
                f"data.prompts_per_rollout={self.prompts_per_rollout}"
            )

    @property
    def mini_batches(self) -> int:
        """The number of mini-batches that a rollout is cut into."""
        return self.prompts_per_rollout // self.prompts_per_mini_batch

    @property
    def steps_per_rollout(self) -> int:
        """The number of optimizer steps of a rollout."""
        return self.epochs_per_rollout * self.mini_batches

    def most_micro_batches(self, ranks: int, longest: int, max_tokens: int) -> int:
        """Returns how many micro-batches a mini-batch may need on a rank.

        It is twice what sequences that are all as long as can be need, because sequences of other
        lengths leave room in a micro-batch, and because ranks may have unequal numbers of them. It
        is at most one for each sequence.

        Args:
            ranks: the number of ranks of the run.
            longest: the number of tokens of the longest sequence.
            max_tokens: the largest size of a micro-batch in tokens.

        Raises:
            ConfigError: the size is below 1.
        """
        if max_tokens < 1:
            raise ConfigError(
                f"data.max_tokens_per_micro_batch must be at least 1, got {max_tokens}"
            )
        samples = -(-self.prompts_per_mini_batch * self.group_size // ranks)
        return min(2 * -(-samples // max(max_tokens // longest, 1)) + 1, samples)

    def largest_micro_batch(
        self, ranks: int, micro_batches: int, longest: int, max_tokens: int | None
    ) -> int:
        """Returns the number of sequences in the largest micro-batch.

        Args:
            ranks: the number of ranks of the run.
            micro_batches: the number of micro-batches of a mini-batch on each rank.
            longest: the number of tokens of the longest sequence.
            max_tokens: the largest size of a micro-batch in tokens, which then decides. None if
                there is none.
        """
        samples = self.prompts_per_mini_batch * self.group_size
        if max_tokens is not None:
            return min(max(max_tokens // longest, 1), max(samples // ranks, 1))
        return max(1, -(-samples // (ranks * micro_batches)))

    def check_ranks(self, ranks: int, micro_batches: int) -> None:
        """Checks that a mini-batch can be divided evenly among ranks and micro-batches.

        Args:
            ranks: the number of ranks of the run.
            micro_batches: the number of micro-batches of a mini-batch on each rank.

        Raises:
            ConfigError: the numbers do not divide.
        """
        if self.prompts_per_mini_batch % ranks:
            raise ConfigError(
                f"data.prompts_per_mini_batch={self.prompts_per_mini_batch} does not divide among "
                f"{ranks} ranks"
            )
        samples = self.prompts_per_mini_batch * self.group_size // ranks
        if micro_batches < 1:
            raise ConfigError(
                f"trainer.accumulate_grad_batches must be at least 1, got {micro_batches}"
            )
        if micro_batches > samples:
            raise ConfigError(
                f"trainer.accumulate_grad_batches={micro_batches} cuts the {samples} samples of a "
                "mini-batch on a rank into more micro-batches than there are samples"
            )

    def check_validation(self, interval: int | float, micro_batches: int) -> None:
        """Checks that no validation comes between the micro-batches of a mini-batch.

        Args:
            interval: Lightning's `val_check_interval`. A whole number counts micro-batches, and a
                fraction is a share of the rollout.
            micro_batches: the number of micro-batches of a mini-batch on each rank.

        Raises:
            ConfigError: a validation would come between two micro-batches of one mini-batch.
        """
        total = self.steps_per_rollout * micro_batches
        is_number = isinstance(interval, (int, float))
        every = max(1, int(total * interval)) if isinstance(interval, float) else interval
        if not is_number or every < 1 or every > total or every % micro_batches:
            raise ConfigError(
                f"trainer.val_check_interval={interval} would validate while the gradient of a "
                f"mini-batch is half made: give a multiple of {micro_batches} "
                f"(trainer.accumulate_grad_batches) up to {total}, the micro-batches of a rollout"
            )

    def describe(
        self, ranks: int, micro_batches: int, rollouts: int, max_tokens: int | None = None
    ) -> str:
        """Returns lines for people that show the sizes of a run and what follows from them."""
        samples = self.prompts_per_rollout * self.group_size
        per_step = self.prompts_per_mini_batch * self.group_size
        micro = f"{micro_batches} micro-batch(es) a mini-batch and rank, of about "
        micro += f"{per_step / ranks / micro_batches:g} samples"
        if max_tokens is not None:
            micro = f"micro-batches of {max_tokens} tokens, at most {micro_batches} a mini-batch"
        return "\n".join(
            [
                f"rollout     {self.prompts_per_rollout} prompts x {self.group_size} responses = "
                f"{samples} samples, {samples // ranks} on each of {ranks} rank(s)",
                f"updates     {self.mini_batches} mini-batches of {self.prompts_per_mini_batch} "
                f"prompts ({per_step} samples) x {self.epochs_per_rollout} epoch(s) = "
                f"{self.steps_per_rollout} optimizer steps",
                f"micro       {micro}",
                f"run         {rollouts} rollouts = {rollouts * self.steps_per_rollout} "
                "optimizer steps",
            ]
        )
