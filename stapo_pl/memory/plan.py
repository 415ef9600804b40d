"""Adds up what each rank of a run holds in memory, phase by phase, and shows it as a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from stapo_pl.memory.footprint import measure_passes, measure_step
from stapo_pl.policy.attention import takes_groups
from stapo_pl.policy.loading import load_config
from stapo_pl.policy.model import Policy
from stapo_pl.samplers.base import Room, SamplerShare

GIB = 2**30
# Configurations of models that can be planned without a network.
_SHAPES = Path(__file__).parents[1] / "assets" / "shapes"


@dataclass
class Line:
    """Bytes of one thing in the three phases of a run.

    The phases follow each other: a rollout is sampled, the passes compute gradients, and the
    optimizer takes a step.
    """

    name: str
    note: str = ""
    rollout: int = 0
    passes: int = 0
    step: int = 0


@dataclass
class MemoryPlan:
    """What each rank holds in memory."""

    title: str
    lines: list[Line]
    room: Room
    """The memory that the sampler is offered."""

    def __getitem__(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)

    @property
    def total(self) -> Line:
        total = Line("total")
        for phase in ("rollout", "passes", "step"):
            setattr(total, phase, sum(getattr(line, phase) for line in self.lines))
        return total

    @property
    def peak(self) -> int:
        return max(self.total.rollout, self.total.passes, self.total.step)

    @property
    def fits(self) -> bool:
        """Whether the device is large enough. It is if its memory is not known."""
        return self.room.device is None or self.peak <= self.room.device

    def describe(self) -> str:
        rows = [self.title, f"{'GiB':<12}{'rollout':>9}{'passes':>9}{'step':>9}"]
        for line in [*self.lines, self.total]:
            sizes = (line.rollout, line.passes, line.step)
            figures = "".join(f"{gib(size) if size else '':>9}" for size in sizes)
            rows.append(f"{line.name:<12}{figures}  {line.note}".rstrip())
        return "\n".join([*rows, self._verdict()])

    def _verdict(self) -> str:
        if self.room.device is None:
            return f"peak {gib(self.peak)} GiB; estimate.gpu_gib can say how much there is of it"
        there = f"peak {gib(self.peak)} of {gib(self.room.device)} GiB"
        return there if self.fits else f"{there}: DOES NOT FIT"


def plan_memory(
    config: PreTrainedConfig,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    share: Callable[[Room], SamplerShare],
    *,
    ranks: int,
    sharded: bool,
    on_gpu: bool,
    sequences: int,
    prompt_tokens: int,
    response_tokens: int,
    dtype: torch.dtype = torch.float32,
    compute_dtype: torch.dtype = torch.float32,
    prepare: Callable[[Policy], None] = lambda policy: None,
    needs_reference: bool = False,
    teacher: PreTrainedConfig | None = None,
    cpu_offload: bool = False,
    device_bytes: int | None = None,
) -> MemoryPlan:
    """Adds up what each rank holds while it samples, in the passes and in the optimizer's step.

    No weights are made, and the device need not exist.

    Args:
        config: the Hugging Face configuration of the policy's model.
        optimizer: makes the optimizer of parameters.
        share: tells how much memory the sampler takes, given the memory that it is offered.
        ranks: number of ranks.
        sharded: whether ranks share weights, gradients and optimizer state, as with FSDP.
        on_gpu: whether ranks compute on GPUs.
        sequences: number of sequences in the largest micro-batch. All are taken to be as long as
            they can be.
        prompt_tokens: tokens of the longest prompt.
        response_tokens: tokens of the longest response.
        dtype: type of the weights.
        compute_dtype: type that the passes compute in.
        prepare: a function that is applied to the policy before it is trained.
        needs_reference: whether there is a reference policy. It is taken to be as large as the
            policy.
        teacher: the Hugging Face configuration of a teacher, if there is one.
        cpu_offload: whether everything that is sharded is kept in the host's memory.
        device_bytes: memory of a rank's device; None if it is not known.
    """
    with torch.device("meta"):
        policy = Policy(AutoModelForCausalLM.from_config(config, dtype=dtype))
        prepare(policy)
    shards = ranks if sharded else 1
    count, trained = _count(policy)
    weights = _part(count * dtype.itemsize, shards)
    # DDP sums gradients in buckets. The buckets are a second copy of all gradients.
    gradients = _part(trained * dtype.itemsize, shards) * (2 if ranks > shards else 1)
    step = measure_step(policy.parameters(), optimizer, on_gpu and not cpu_offload)
    state, stepping = _part(step.state, shards), _part(step.peak, shards)
    passes = measure_passes(
        config,
        sequences=sequences,
        prompt_tokens=prompt_tokens,
        response_tokens=response_tokens,
        dtype=compute_dtype if sharded else dtype,
        autocast=None if sharded or compute_dtype == dtype else compute_dtype,
        repeat_groups=not takes_groups(on_gpu, compute_dtype),
        on_gpu=on_gpu,
        prepare=prepare,
        sharded=sharded,
    )
    part = f"1/{shards} of " if shards > 1 else ""
    lines = [
        Line("weights", f"{part}{count:,} in {_name(dtype)}", weights, weights, weights),
        Line("optimizer", "state; in the step, what it computes too", state, state, stepping),
        Line("gradients", "and DDP's copy" if ranks > shards else "", 0, gradients, gradients),
    ]
    if needs_reference:
        lines.append(Line("reference", "", weights, weights, weights))
    if teacher is not None:
        with torch.device("meta"):
            count_of_teacher, _ = _count(AutoModelForCausalLM.from_config(teacher, dtype=dtype))
        held = _part(count_of_teacher * dtype.itemsize, shards)
        lines.append(Line("teacher", f"{part}{count_of_teacher:,}", held, held, held))
    if cpu_offload and on_gpu:
        lines = [Line(line.name, f"{gib(line.step)} GiB on the host") for line in lines]
    working = {"head chunk": passes.head, "layer": passes.layers}
    if sharded:
        layers = [_count(layer) for layer in policy.decoder_layers]
        layer, trained_layer = map(max, zip(*layers, strict=True))
        root, trained_root = count - sum(n for n, _ in layers), trained - sum(n for _, n in layers)
        # FSDP gathers the root (embedding and head) once for both passes. It holds two layers at a
        # time, because it gathers the next layer ahead. It also holds the gradients of one layer,
        # and an fp32 copy of them that is summed over the ranks.
        gathered = (root + 2 * layer + trained_layer) * compute_dtype.itemsize + 4 * trained_layer
        lines.append(Line("gathered", "embedding, head, two layers", 0, gathered))
        working["embedding's gradient"] = passes.left + 4 * trained_root
    beyond = {name: size - passes.kept for name, size in working.items() if size > passes.kept}
    at_work = ", ".join(f"{name} {gib(size)}" for name, size in beyond.items())
    batch = f"{sequences} x {prompt_tokens + response_tokens} tokens"
    again = ", checkpointed" if policy.checkpoints_gradients else ""
    lines += [
        Line("activations", f"{batch} in {_name(compute_dtype)}{again}", 0, passes.kept),
        Line("working set", f"largest of: {at_work}", 0, max(beyond.values())),
    ]
    title = f"memory plan of each of {ranks} {'GPU' if on_gpu else 'CPU'} rank(s)"
    plan = MemoryPlan(title, lines, Room(device_bytes))
    plan.room.others, plan.room.others_at_peak = plan.total.rollout, plan.peak
    sampler = share(plan.room)
    lines.append(Line("sampler", sampler.note, sampler.awake, sampler.asleep, sampler.asleep))
    return plan


def architecture(path: str) -> PreTrainedConfig:
    """The configuration of a model folder or hub name. Some models need no network for it.

    Raises:
        ConfigError: there is no such model.
    """
    # The base models have the shapes of those that were trained on.
    shape = _SHAPES / f"{path.removeprefix('Qwen/').removesuffix('-Base')}.json"
    known = path.startswith("Qwen/") and shape.exists() and not Path(path).exists()
    return AutoConfig.from_pretrained(shape) if known else load_config(path)


def device_memory(device: torch.device, ranks: int) -> int | None:
    """The bytes that a rank has on its device, where `ranks` ranks share a machine.

    Of a CPU's memory each rank has an equal share. None if the device is a GPU that is not here.
    """
    if device.type == "cuda":
        is_here = torch.cuda.is_available()
        return torch.cuda.get_device_properties(device).total_memory if is_here else None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks


def _count(module: nn.Module) -> tuple[int, int]:
    """The number of parameters, and how many of them are trained."""
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _part(size: int, shards: int) -> int:
    return -(-size // shards)


def gib(size: int) -> str:
    """Shows a number of bytes in GiB, with three digits."""
    return f"{size / GIB:.3g}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
