"""The sizes of rollouts and batches, and the checks that they fit together.

Users of every framework get this arithmetic wrong once, so each check says what does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from stapo_pl.core.errors import ConfigError


@dataclass(frozen=True)
class PassSize:
    """The size of a micro-batch whose sequences are equally long."""

    sequences: int
    """The number of sequences."""
    prompt_tokens: int
    """The number of tokens of each prompt."""
    response_tokens: int
    """The number of tokens of each response."""


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
        """Returns a number of micro-batches that suffices for any mini-batch on any rank.

        A rank has at most the mean number of tokens and one sequence more, see `deal`. Where the
        first sequences of two neighbouring micro-batches differ by less than a factor of 2, the
        first of the two holds more than a quarter of `max_tokens`. They differ by more at most as
        often as `longest` can be halved.

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
        samples = self.prompts_per_mini_batch * self.group_size
        tokens_of_a_rank = (samples / ranks + 1) * longest
        most = int(4 * tokens_of_a_rank / max_tokens) + longest.bit_length() + 1
        return min(most, samples)

    def largest_micro_batch(
        self,
        ranks: int,
        micro_batches: int,
        prompt_tokens: int,
        response_tokens: int,
        max_tokens: int | None,
    ) -> PassSize:
        """Returns the largest micro-batch that there can be.

        Args:
            ranks: the number of ranks of the run.
            micro_batches: the number of micro-batches of a mini-batch on each rank.
            prompt_tokens: the number of tokens of the longest prompt.
            response_tokens: the number of tokens of the longest response.
            max_tokens: the largest size of a micro-batch in tokens, which then decides. None if
                there is none.
        """
        samples = self.prompts_per_mini_batch * self.group_size
        if max_tokens is None:
            sequences = max(1, -(-samples // (ranks * micro_batches)))
            return PassSize(sequences, prompt_tokens, response_tokens)
        # Somewhat shorter sequences can fill it better than the longest ones.
        longest = prompt_tokens + response_tokens
        sequences = min(max(-(-max_tokens // longest), 1), samples)
        length = min(max(max_tokens // sequences, 1), longest) if sequences > 1 else longest
        responses = max(min(response_tokens, length - 1), 1)
        return PassSize(sequences, max(length - responses, 1), responses)

    def check_ranks(self, ranks: int, micro_batches: int | None) -> None:
        """Checks that a mini-batch can be divided evenly among ranks and micro-batches.

        Args:
            ranks: the number of ranks of the run.
            micro_batches: the number of micro-batches of a mini-batch on each rank. None if a
                number of tokens decides.

        Raises:
            ConfigError: the numbers do not divide.
        """
        if self.prompts_per_mini_batch % ranks:
            raise ConfigError(
                f"data.prompts_per_mini_batch={self.prompts_per_mini_batch} does not divide among "
                f"{ranks} ranks"
            )
        samples = self.prompts_per_mini_batch * self.group_size // ranks
        if micro_batches is None:
            return
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
                f"mini-batch is half made: give a share of a rollout with its "
                f"{self.steps_per_rollout} optimizer steps, such as 1.0, or a multiple of "
                f"{micro_batches} up to {total}, the micro-batches of a mini-batch and of a rollout"
            )

    def describe(
        self, ranks: int, micro_batches: int, rollouts: int, max_tokens: int | None, prompts: int
    ) -> str:
        """Returns lines for people that show the sizes of a run and what follows from them.

        Args:
            ranks: the number of ranks of the run.
            micro_batches: the number of micro-batches of a mini-batch on each rank.
            rollouts: the number of rollouts of the run.
            max_tokens: the largest size of a micro-batch in tokens, which then decides.
            prompts: the number of prompts that there are to train on.
        """
        asked = self.prompts_per_rollout
        samples, again = asked * self.group_size, ""
        per_step = self.prompts_per_mini_batch * self.group_size
        if asked > prompts:
            again = f"; each of the {prompts} prompts about {asked / prompts:.3g} times"
        micro = f"{micro_batches} micro-batch(es) a mini-batch and rank, of about "
        micro += f"{per_step / ranks / micro_batches:g} samples"
        if max_tokens is not None:
            micro = f"as many micro-batches a mini-batch as {max_tokens} tokens in each make, "
            micro += "whatever trainer.accumulate_grad_batches says"
        return "\n".join(
            [
                f"rollout     {asked} prompts x {self.group_size} responses = "
                f"{samples} samples, {samples // ranks} on each of {ranks} rank(s){again}",
                f"updates     {self.mini_batches} mini-batches of {self.prompts_per_mini_batch} "
                f"prompts ({per_step} samples) x {self.epochs_per_rollout} epoch(s) = "
                f"{self.steps_per_rollout} optimizer steps",
                f"micro       {micro}",
                f"run         {rollouts} rollouts = {rollouts * self.steps_per_rollout} "
                "optimizer steps",
            ]
        )
