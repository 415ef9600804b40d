"""How much a run computes, and how long that takes: tokens, floating point operations and days."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives import Objective
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.training.scoring import OldLogprobs, is_scored

_DAY = 24 * 3600


@dataclass
class Estimate:
    """What the estimate of a run's time and memory assumes. Only `--plan` reads it.

    Args:
        prompt_tokens: the mean number of tokens of a prompt. None is the longest possible one.
        response_tokens: the mean number of tokens of a response. None is the longest possible one.
        sampler_tokens_per_s: the tokens that one GPU samples in a second.
        mfu: the share of a GPU's peak that passes reach (model FLOPs utilisation).
        gpu_tflops: the peak of a GPU in 10^12 operations a second. The default is that of an H100
            in bfloat16.
        gpu_gib: the memory of a GPU. None is what a GPU of this machine has.

    Raises:
        ConfigError: a value is out of range.
    """

    prompt_tokens: int | None = None
    response_tokens: int | None = None
    sampler_tokens_per_s: float = 2500.0
    mfu: float = 0.35
    gpu_tflops: float = 989.0
    gpu_gib: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ConfigError(f"estimate.{name} must be greater than 0, got {value}")
        if not 0 < self.mfu <= 1:
            raise ConfigError(f"estimate.mfu must lie above 0 and be at most 1, got {self.mfu}")


@dataclass
class Workload:
    """What a run computes on all of its GPUs, apart from validations."""

    steps: int
    """Optimizer steps of the run."""
    step_tokens: int
    """Tokens of prompts and responses that a step learns from."""
    step_passes: float
    """Passes over these tokens, counted as forward passes."""
    step_flops: float
    """Floating point operations of a step."""
    update_days: float
    """Days of one GPU that all passes of the run take."""
    sampling_days: float
    """Days of one GPU that all rollouts of the run take."""

    lengths: tuple[int, int]
    """Tokens of each prompt and of each response."""
    assumed: Estimate
    """What the days follow from."""
    sampling_rounds: int = 1
    """The largest number of times that dynamic sampling samples a rollout."""

    def describe(self, gpus: int | None) -> str:
        """Returns lines for people.

        Args:
            gpus: the number of GPUs of the run. None for a run without one, whose days are not
                estimated.
        """
        lines = [
            f"work of {self.steps:,} steps",
            f"a step      {self.step_tokens:,} tokens, {self.step_passes:.3g} forward passes "
            f"of them, {self.step_flops:.3g} operations",
            f"each        prompt has {self.lengths[0]:,} tokens and each response "
            f"{self.lengths[1]:,}: by default the longest, see estimate.response_tokens",
        ]
        if gpus is not None:
            total, assumed = self.update_days + self.sampling_days, self.assumed
            more = ""
            if (rounds := self.sampling_rounds) > 1:
                more = f", nor further rounds of dynamic sampling (up to {rounds - 1})"
            lines += [
                f"GPU-days    {self.update_days:.3g} of passes + {self.sampling_days:.3g} of "
                f"sampling = {total:.3g}",
                f"{gpus:,} GPU(s)".ljust(12) + f"{total / gpus:.3g} days at {assumed.mfu:g} of "
                f"{assumed.gpu_tflops:g} TFLOPS and {assumed.sampler_tokens_per_s:,g} sampled "
                f"tokens a second; validations are not counted{more}",
            ]
        return "\n".join(lines)


def forward_flops(config: PreTrainedConfig, length: int) -> float:
    """Returns the operations of a forward pass for each token of sequences of a length.

    Every weight of a linear layer multiplies and adds once. A causal attention of L tokens reads
    (L + 1) / 2 keys and as many values of each head for a token, in the mean.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    text = config.get_text_config()
    width = text.num_attention_heads * getattr(
        text, "head_dim", text.hidden_size // text.num_attention_heads
    )
    return 2 * weights + 2 * text.num_hidden_layers * width * (length + 1)


def passes_of_a_step(
    objective: Objective,
    sizes: BatchSizes,
    old_logprobs: OldLogprobs,
    *,
    dropout: bool = False,
    checkpoints: bool = False,
    adapters: bool = False,
) -> float:
    """Returns how many forward passes the tokens of a step have, in the mean over a rollout.

    A backward pass counts as two, or as one if only adapters are trained, because frozen weights
    have no gradient. Checkpointing adds one more.

    Args:
        objective: the objective, which asks for passes.
        sizes: the sizes of the run.
        old_logprobs: where the old log-probabilities come from.
        dropout: whether passes with gradient use dropout.
        checkpoints: whether activations are computed again in the backward pass.
        adapters: whether adapters are trained in the policy's place.
    """
    asked = (objective, old_logprobs, dropout, sizes.epochs_per_rollout)
    # The unit is one pass of a mini-batch.
    scored = sum(is_scored(*asked, is_first=n == 0) for n in range(sizes.mini_batches))
    scored += sizes.mini_batches * (objective.needs_reference + objective.needs_teacher)
    if old_logprobs == "sampler" and dropout:  # to compare it with the sampler
        scored += 1
    if objective.needs_current_statistics:  # after the first update
        scored += sizes.steps_per_rollout - 1
    return 1 + (1 if adapters else 2) + checkpoints + scored / sizes.steps_per_rollout


def estimate_work(
    config: PreTrainedConfig,
    sizes: BatchSizes,
    rollouts: int,
    prompt_tokens: int,
    response_tokens: int,
    passes: float,
    estimate: Estimate,
    sampling_rounds: int = 1,
) -> Workload:
    """Returns what a run computes, with all sequences of one length.

    Nothing is taken off for sequences that are left out because they teach nothing, and nothing is
    added for padding.

    Args:
        config: the Hugging Face configuration of the policy's model.
        sizes: the sizes of the run.
        rollouts: the number of rollouts of the run.
        prompt_tokens: the number of tokens of the longest prompt.
        response_tokens: the number of tokens of the longest response.
        passes: the forward passes of a step, see `passes_of_a_step`.
        estimate: what is assumed, the mean lengths among it.
        sampling_rounds: the largest number of rounds of dynamic sampling. One is counted.

    Raises:
        ConfigError: a mean length is larger than the longest possible one.
    """
    for name, most in (("prompt_tokens", prompt_tokens), ("response_tokens", response_tokens)):
        if (mean := getattr(estimate, name)) is not None and mean > most:
            raise ConfigError(f"estimate.{name}={mean} is more than the longest, which is {most}")
    prompt_tokens = estimate.prompt_tokens or prompt_tokens
    response_tokens = estimate.response_tokens or response_tokens
    length = prompt_tokens + response_tokens
    steps = rollouts * sizes.steps_per_rollout
    tokens = sizes.prompts_per_mini_batch * sizes.group_size * length
    flops = tokens * passes * forward_flops(config, length)
    sampled = rollouts * sizes.prompts_per_rollout * sizes.group_size * response_tokens
    return Workload(
        steps=steps,
        step_tokens=tokens,
        step_passes=passes,
        step_flops=flops,
        update_days=steps * flops / (estimate.mfu * estimate.gpu_tflops * 1e12) / _DAY,
        sampling_days=sampled / estimate.sampler_tokens_per_s / _DAY,
        lengths=(prompt_tokens, response_tokens),
        assumed=estimate,
        sampling_rounds=sampling_rounds,
    )
