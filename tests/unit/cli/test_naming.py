"""Names of runs: two settings never share one, and what moves no weight is not in it."""

from __future__ import annotations

import re

import pytest

from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import expand
from stapo_pl.core.errors import ConfigError
from support.places import CONFIGS


class _Named(Exception):
    """Ends the making of a run when it has its name."""


class _OnlyNamed(StapoCLI):
    def instantiate_classes(self):
        raise _Named(self.folder.parent.name)


def name(folder, *words: str) -> str:
    with pytest.raises(_Named) as named:
        _OnlyNamed(expand([f"run.logs={folder}", *words], CONFIGS), CONFIGS)
    return str(named.value)


@pytest.mark.parametrize(
    "words, expected",
    [
        ("objective=stapo", "stapo-arithmetic-seed0"),
        ("objective=stapo_v1 seed_everything=7", "stapo_v1-arithmetic-seed7"),
        ("objective=grpo objective.kl_coef=0.001", "grpo-arithmetic-kl_coef0.001-seed0"),
        ("objective=grpo objective.kl_coef=0.0", "grpo-arithmetic-seed0"),  # as it is anyway
        (
            "objective=grpo objective.selection=S2T objective.selection.tau_p=0.01",
            "grpo-arithmetic-selection_s2t-tau_p0.01-seed0",
        ),
        ("reward=math model.lora.rank=8", "stapo-arithmetic-reward_math-rank8-seed0"),
        ("model.optimizer.betas=[0.9,0.95]", "stapo-arithmetic-betas_0.9_0.95-seed0"),
        ("trainer.gradient_clip_val=0.5", "stapo-arithmetic-gradient_clip_val0.5-seed0"),
        (
            "trainer.max_epochs=3 data.validation.samples=3 model.packing=true data.prune=false "
            "sampler=transformers trainer.log_every_n_steps=2 data.grading.workers=1",
            "stapo-arithmetic-seed0",
        ),
        ("run.name=mine objective.tau_p=0.1", "mine"),
    ],
)  # fmt: skip
def test_a_run_is_named_by_what_was_set(words, expected, tmp_path):
    assert name(tmp_path, *words.split()) == expected


def test_a_list_of_selections_is_named_by_its_classes(tmp_path):
    items = ("S2T", "{class_path: S2T, init_args: {tau_p: 0.1}}")
    one, two = (
        name(tmp_path, "objective=grpo", f"objective.selection=[{item},TopEntropy]")
        for item in items
    )
    assert one != two
    for found in (one, two):
        assert re.fullmatch("grpo-arithmetic-selection_s2t_topentropy-[0-9a-f]{6}-seed0", found)


def test_long_names_are_cut_and_still_differ(tmp_path):
    words = [
        "data.temperature=0.7", "data.group_size=16", "data.prompts_per_rollout=128",
        "data.prompts_per_mini_batch=16", "data.max_new_tokens=128", "model.warmup_steps=3",
    ]  # fmt: skip
    short, other = (name(tmp_path, *words, f"task.steps={steps}") for steps in (2, 4))
    assert short != other and max(len(short), len(other)) < 140
    paths = [name(tmp_path, f"model.path={'/models' * 9}/{end}/policy") for end in "ab"]
    assert len({*paths}) == 2 and max(map(len, paths)) < 100 and "/" not in "".join(paths)


def test_what_last_does_not_find_names_the_runs_there_are(tmp_path):
    for folder in ("stapo-arithmetic-seed0", "stapo-arithmetic-lr0.1-seed0"):
        checkpoints = tmp_path / folder / "version_0" / "checkpoints"
        checkpoints.mkdir(parents=True)
        (checkpoints / "rollout-00000.ckpt").touch()
    with pytest.raises(ConfigError) as refused:
        name(tmp_path, "ckpt_path=last", "objective.tau_p=0.1")
    assert "stapo-arithmetic-tau_p0.1-seed0" in str(refused.value)
    assert "; there are runs stapo-arithmetic-" in str(refused.value)
