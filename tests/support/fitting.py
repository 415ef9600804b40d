"""Small runs in this process, by the command line's words, and their curves."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import expand
from stapo_pl.training.parts import RunCallback
from support.places import CONFIGS

SMALL = [
    "data.prompts_per_rollout=8", "data.prompts_per_mini_batch=4", "data.group_size=4",
    "trainer.max_epochs=2", "trainer.accumulate_grad_batches=2",
    "trainer.check_val_every_n_epoch=1", "data.validation.samples=2",
    "trainer.limit_val_batches=0", "data.grading.workers=1",
]  # fmt: skip
# For runs whose validations are looked at; they take more time than all else.
VALIDATED = "trainer.limit_val_batches=1.0"
FEW_PROBLEMS = ("task.validation_size=8", "task.train_size=64")


class Listener(RunCallback):
    """Keeps all events of some kinds, and does something with each of them first."""

    def __init__(self, *kinds, act=lambda event: None) -> None:
        self.kinds, self.act, self.heard = kinds, act, []

    def connect(self, parts) -> None:
        for kind in self.kinds:
            parts.events.listen(kind, self._hear)

    def _hear(self, event) -> None:
        self.act(event)
        self.heard.append(event)


def make(tmp_path: Path, *words: str, task: tuple[str, ...] = FEW_PROBLEMS) -> StapoCLI:
    return StapoCLI(expand([*SMALL, f"run.logs={tmp_path}", *task, *words], CONFIGS), CONFIGS)


def fit(cli: StapoCLI, *callbacks: L.Callback) -> StapoCLI:
    cli.trainer.callbacks += callbacks
    cli.fit()
    return cli


def scalars(cli: StapoCLI) -> dict[str, list[tuple[int, float]]]:
    return read_scalars(cli.folder)


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def read_texts(folder: Path, name: str) -> list[str]:
    events = EventAccumulator(str(folder))
    events.Reload()
    kept = events.Tensors(f"{name}/text_summary")
    return [text.decode() for event in kept for text in event.tensor_proto.string_val]


def flat(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def rig(cli: StapoCLI, reward_of) -> None:
    """Makes the reward of the n-th training response `reward_of(n)`, verdicts as they were."""
    reward = cli.datamodule.task.reward
    score, count = reward.score, iter(range(10**6))

    def rigged(response, problem):
        verdict = score(response, problem)
        # At the start, the answers themselves are tried.
        if cli.trainer.inside_rollout and not cli.trainer.validating:
            verdict.reward = float(reward_of(next(count)))
        return verdict

    reward.score = rigged
    # Responses are judged in the order in which the sampler tells them: here, in that of requests.
    (sampler,) = (c for c in cli.trainer.callbacks if hasattr(c, "engine"))
    generate = sampler.generate
    sampler.generate = lambda requests, decoding, _: generate(requests, decoding, lambda _: None)


def build(words: list[str], folder: Path) -> StapoCLI:
    return StapoCLI(expand([f"run.logs={folder}", *words], CONFIGS), CONFIGS)
