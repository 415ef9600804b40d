"""Ten optimizer steps of every objective on recorded rollouts.

`cd tests && python -m support.curves` records rollouts and curves again.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import expand
from stapo_pl.policy.loading import load_policy
from stapo_pl.policy.model import shipped_policy
from support.fitting import read_scalars
from support.places import CONFIGS, GOLDEN, OBJECTIVES
from support.replay import ROLLOUTS

RECORDED = GOLDEN / "objectives.json"


CURVES = ("policy/loss", "policy/grad_norm", "policy/silenced_fraction", "policy/entropy")


STEPS = 10


# Adam divides the rounding of a small gradient by its size, and so makes it a large one.
WORDS = [
    "data.prompts_per_rollout=8", "data.prompts_per_mini_batch=4", "data.group_size=4",
    "trainer.max_epochs=5", "trainer.accumulate_grad_batches=2",
    "trainer.check_val_every_n_epoch=5", "data.validation.samples=1", "task.validation_size=1",
    "task.train_size=256", "model.optimizer=SGD", "model.optimizer.lr=0.5", "model.warmup_steps=0",
    "data.grading.workers=1", "data.temperature=1.2", "data.prune=false",
]  # fmt: skip


# The shipped policy writes few tokens as rare as the paper's, and a mini-batch here is small; with
# these settings some tokens are silenced or penalized. The teacher is the policy to start from,
# which the reward leads away from.
OWN = {
    "stapo": ["objective.tau_p=0.3"],
    "stapo_v1": ["objective.tau_p=0.3"],
    "kl_cov": ["objective.ratio=0.05"],
    "clip_cov": ["objective.ratio=0.05", "objective.band_low=0.5"],
    # It adds up log-probabilities, so that steps are large, and each makes rounding larger.
    "rloo": ["model.optimizer.lr=0.02"],
    "opd": ["objective.token_advantage.reward_coef=1.0"],
}


def words_of(objective: str) -> list[str]:
    return [f"objective={objective}", *WORDS, *OWN.get(objective, [])]


def curves_of(words: list[str], logs: Path) -> dict[str, list[float]]:
    """Trains, which moves the weights, and gives each curve's values, one an optimizer step."""
    if "objective=opd" in words:
        words = [*words, f"model.teacher_path={shipped_policy()}"]
    cli = StapoCLI(expand([*words, f"run.logs={logs}"], CONFIGS), CONFIGS)
    cli.fit()
    start = load_policy(str(shipped_policy())).named_weights()
    pairs = zip(start, cli.model.policy.named_weights(), strict=True)
    assert any(not torch.equal(before, after) for (_, before), (_, after) in pairs)
    scalars = read_scalars(cli.folder)
    for name in CURVES:
        assert [step for step, _ in scalars[name]] == list(range(STEPS)), name
    return {name: [value for _, value in scalars[name]] for name in CURVES}


def record() -> None:
    """Samples the rollouts of all objectives, then trains each of them on these."""
    torch.set_num_threads(1)
    ROLLOUTS.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as logs:
        for objective in OBJECTIVES:
            sampler = ["sampler=support.replay.Record", f"sampler.file={ROLLOUTS}"]
            curves_of([*words_of(objective), *sampler], Path(logs))
        recorded = {
            objective: {
                "words": words_of(objective),
                **curves_of([*words_of(objective), "sampler=support.replay.Replay"], Path(logs)),
            }
            for objective in OBJECTIVES
        }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    record()
