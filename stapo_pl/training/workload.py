"""How much a run computes, and how long that takes: tokens, floating point operations and days."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives import Objective
from stapo_pl.rollout.sizes import BatchSizes

_DAY = 24 * 3600


@dataclass
class Estimate:
    """What the estimate of a run's time and memory assumes. Only `--plan` reads it.

    Args:
        response_tokens: the mean number of tokens of a response. None is the longest possible one.
        sampler_tokens_per_s: the tokens that one GPU samples in a second.
        mfu: the share of a GPU's peak that passes reach (model FLOPs utilisation).
        gpu_tflops: the peak of a GPU in 10^12 operations a second. The default is that of an H100
            in bfloat16.
        gpu_gib: the memory of a GPU. None is what a GPU of this machine has.

    Raises:
        ConfigError: a value is out of range.
    """

    response_tokens: int | None = None
    sampler_tokens_per_s: float = 2500.0
    mfu: float = 0.35
    gpu_tflops: float = 989.0
    gpu_gib: float | None = None

    def __post_init__(self) -> None:
        for name in ("response_tokens", "sampler_tokens_per_s", "gpu_tflops", "gpu_gib"):
            value = getattr(self, name)
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

    def describe(self, gpus: int) -> str:
        """Returns lines for people, for a number of GPUs."""
        total = self.update_days + self.sampling_days
        return "\n".join(
            [
                f"work of {self.steps:,} steps",
                f"a step      {self.step_tokens:,} tokens, {self.step_passes:.3g} forward passes "
                f"of them, {self.step_flops:.3g} operations",
                f"GPU-days    {self.update_days:.3g} of passes + {self.sampling_days:.3g} of "
                f"sampling = {total:.3g}",
                f"{gpus:,} GPU(s)".ljust(12) + f"{total / gpus:.3g} days, validations not counted",
            ]
        )


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
    objective: Objective, sizes: BatchSizes, recomputes: bool, checkpoints: bool
) -> float:
    """Returns how many forward passes the tokens of a step have, in the mean over a rollout.

    A backward pass counts as two, and checkpointing adds one more.

    Args:
        objective: the objective, which asks for passes.
        sizes: the sizes of the run.
        recomputes: whether old log-probabilities come from a pass of the policy.
        checkpoints: whether activations are computed again in the backward pass.
    """
    steps = sizes.steps_per_rollout
    later = (steps - 1) / steps
    passes = 4.0 if checkpoints else 3.0
    scored = float(objective.needs_reference + objective.needs_teacher)  # once a rollout
    asks = objective.needs_behavior_statistics
    if recomputes:  # the first mini-batch's update is its scoring pass, if nothing asks earlier
        scored += 1.0 if asks else later
    elif asks and not objective.needs_current_statistics:
        scored += 1.0
    if objective.needs_current_statistics:
        passes += later if recomputes else 1.0
    return passes + scored / sizes.epochs_per_rollout


def estimate_work(
    config: PreTrainedConfig,
    sizes: BatchSizes,
    rollouts: int,
    prompt_tokens: int,
    response_tokens: int,
    passes: float,
    estimate: Estimate,
) -> Workload:
    """Returns what a run computes, with all sequences of one length.

    Nothing is taken off for sequences that are left out because they teach nothing, and nothing is
    added for padding.

    Args:
        config: the Hugging Face configuration of the policy's model.
        sizes: the sizes of the run.
        rollouts: the number of rollouts of the run.
        prompt_tokens: the number of tokens of a prompt.
        response_tokens: the number of tokens of a response, unless the estimate sets another.
        passes: the forward passes of a step, see `passes_of_a_step`.
        estimate: what is assumed.
    """
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
    )
