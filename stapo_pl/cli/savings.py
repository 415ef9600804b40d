"""Settings that take less memory, for a run that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace

from stapo_pl.memory.plan import MemoryPlan, gib
from stapo_pl.policy.lora import LoRA
from stapo_pl.samplers import TransformersSampler
from stapo_pl.training.strategy import FSDP

_FSDP = f"{FSDP.__module__}.{FSDP.__name__}"


def describe_savings(
    config: Namespace, made: MemoryPlan, plan: Callable[[Namespace], MemoryPlan]
) -> str:
    """Returns lines that show what takes less memory, until the run fits.

    Each line is a word of the command, which goes on top of those before it, and the peak that is
    left. Words that do not lower the peak are not shown. What changes nothing but time comes first.

    Args:
        config: all settings of the run.
        made: its plan.
        plan: plans a run with these settings.
    """
    lines = ["what takes less, one on top of the other:"]
    while not made.fits:
        for word, settings in _savings(config):
            tried = config.clone()
            tried.update(Namespace(settings))
            less = plan(tried)
            if less.peak < made.peak:
                config, made = tried, less
                fits = ", fits" if made.fits else ""
                if lines[-1].startswith(f"  {word.partition('=')[0]}="):
                    lines.pop()  # the same key, which is smaller now
                lines.append(f"  {word:<52} peak {gib(made.peak)} GiB{fits}")
                break
        else:
            lines.append("  more GPUs with trainer=fsdp, or a shorter data.max_new_tokens")
            break
    return "\n".join(lines)


def _savings(config: Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Words that are not yet set, and the settings that they change."""
    data, strategy, engine = config.data, config.trainer.strategy, config.sampler.engine
    longest = data.max_prompt_tokens + data.max_new_tokens
    if not config.model.gradient_checkpointing:
        yield "model.gradient_checkpointing=true", {"model.gradient_checkpointing": True}
    if data.max_tokens_per_micro_batch is None or data.max_tokens_per_micro_batch > longest:
        key = "data.max_tokens_per_micro_batch"
        yield f"{key}={longest}", {key: longest}
    if _is(engine, TransformersSampler) and engine.init_args.batch_size > 1:
        half = engine.init_args.batch_size // 2
        yield f"sampler.batch_size={half}", {"sampler.engine.init_args.batch_size": half}
    is_sharded = _is(strategy, FSDP)
    if not is_sharded:
        yield "trainer=fsdp", {"trainer.strategy": Namespace(class_path=_FSDP)}
    if not (is_sharded and strategy.get("init_args.cpu_offload")):
        offload = Namespace(class_path=_FSDP, init_args=Namespace(cpu_offload=True))
        word = "trainer.strategy.cpu_offload=true (slower)"
        yield word if is_sharded else f"trainer=fsdp {word}", {"trainer.strategy": offload}
    if config.model.lora is None:
        word = "model.lora.rank=16 (trains adapters)"
        yield word, {"model.lora": Namespace(asdict(LoRA()))}


def _is(part: Any, kind: type) -> bool:
    path = getattr(part, "class_path", None)
    return path is not None and resolve_name(path) is kind
