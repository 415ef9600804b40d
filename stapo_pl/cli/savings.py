"""Settings that take less memory, for a run that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from jsonargparse import Namespace

from stapo_pl.memory.plan import MemoryPlan, gib
from stapo_pl.policy.lora import LoRA
from stapo_pl.training.strategy import FSDP

_FSDP = f"{FSDP.__module__}.{FSDP.__name__}"


def describe_savings(config: Namespace, plan: Callable[[Namespace], MemoryPlan]) -> str:
    """Returns lines that show what takes less memory, until the run fits.

    Each line is a word of the command, which goes on top of those before it, and the peak that is
    left. Words that change nothing but time come first.

    Args:
        config: all settings of the run.
        plan: plans a run with these settings.
    """
    made, config = plan(config), config.clone()
    lines = ["what takes less, one on top of the other:"]
    for word, settings in _savings(config):
        config.update(Namespace(settings))
        before, made = made.peak, plan(config)
        if made.peak < before:
            fits = ", fits" if made.fits else ""
            lines.append(f"  {word:<50} peak {gib(made.peak)} GiB{fits}")
        if made.fits:
            return "\n".join(lines)
    return "\n".join([*lines, "  more GPUs with trainer=fsdp, or a shorter data.max_new_tokens"])


def _savings(config: Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Words that are not yet set, and the settings that they change."""
    data, strategy = config.data, config.trainer.strategy
    longest = data.max_prompt_tokens + data.max_new_tokens
    yield "model.gradient_checkpointing=true", {"model.gradient_checkpointing": True}
    if data.max_tokens_per_micro_batch is None or data.max_tokens_per_micro_batch > longest:
        key = "data.max_tokens_per_micro_batch"
        yield f"{key}={longest}", {key: longest}
    word = "trainer.strategy.cpu_offload=true"
    if getattr(strategy, "class_path", None) != _FSDP:
        yield "trainer=fsdp", {"trainer.strategy": Namespace(class_path=_FSDP)}
        word = f"trainer=fsdp {word}"
    offload = Namespace(class_path=_FSDP, init_args=Namespace(cpu_offload=True))
    yield word, {"trainer.strategy": offload}
    if config.model.lora is None:
        yield "model.lora.rank=16", {"model.lora": Namespace(asdict(LoRA()))}
