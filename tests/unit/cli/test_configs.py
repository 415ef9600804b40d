"""Every YAML in configs/ builds what it names, and lists what it should."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from itertools import groupby, zip_longest

import pytest
import yaml
from datasets import Dataset

from stapo_pl import objectives, tasks
from stapo_pl.cli.grammar import FIT
from stapo_pl.objectives import Objective, RolloutRules
from stapo_pl.samplers.vllm import sampler as vllm
from stapo_pl.training.datamodule import RolloutDataModule
from support.fitting import build
from support.places import CONFIGS, OBJECTIVES
from support.rows import verl_row

GROUP_FILES = [path for path in sorted(CONFIGS.rglob("*.yaml")) if path.parent != CONFIGS]
TASK_FILES = [path for path in GROUP_FILES if path.parent.name == "task"]
# Those of models name weights that are not here; tests/test_plan.py makes their plans.
BUILT_FILES = [p for p in GROUP_FILES if p.parent.name not in ("model", "experiment")]
BUILT_FILES.remove(CONFIGS / "logger" / "wandb.yaml")  # tests of loggers build it
# One of each group at a time.
BUILT_TOGETHER = [
    [path for path in paths if path]
    for paths in zip_longest(*(list(g) for _, g in groupby(BUILT_FILES, lambda p: p.parent)))
]


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(
            paths,
            id="-".join(path.stem for path in paths),
            marks=[pytest.mark.gym] * any(path.stem == "reasoning_gym" for path in paths),
        )
        for paths in BUILT_TOGETHER
    ],
)
def test_every_yaml_builds(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm, "is_installed", lambda: True)  # it is imported later, to build
    words = [f"{path.parent.name}={path.stem}" for path in paths]
    if "task=file" in words:
        file = tmp_path / "rows.parquet"
        Dataset.from_list([verl_row("1+1?", "2")]).to_parquet(file)
        words.append(f"task.path={file}")
    if "objective=opd" in words:
        words.append("model.teacher_path=/models/teacher")  # it is read when training starts
    if "reward=function" in words:
        words.append("reward.path=support.rows.verl_row")
    cli = build(words, tmp_path)
    for path in paths:
        config = yaml.safe_load(path.read_text())
        built = {
            "objective": lambda: cli.model.objective,
            "sampler": lambda: cli.config_init.sampler.engine,
            "task": lambda: cli.datamodule.task,
            "reward": lambda: cli.datamodule.task.reward,
            "trainer": lambda: cli.trainer.strategy,
            "logger": lambda: cli.trainer.logger,
        }[path.parent.name]()
        if config is None:
            assert path.stem == "auto" and built is None
        else:
            spec = config.get("task", config.get("strategy", config))
            assert type(built).__name__ == spec["class_path"].rpartition(".")[2], path


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"grpo"}))
def test_an_objective_yaml_lists_only_what_differs_from_its_parent(name):
    config = yaml.safe_load((CONFIGS / "objective" / f"{name}.yaml").read_text())
    listed = config.get("init_args", {})
    cls = getattr(objectives, config["class_path"].rpartition(".")[2])
    own, inherited = cls(), {field.name: _default(field) for field in fields(Objective)}
    if not inspect.isabstract(cls.__base__):
        inherited = vars(cls.__base__())
    differs = {k for k, v in vars(own).items() if k not in inherited or v != inherited[k]}
    if name == "stapo_v1":  # the same class as stapo, which is its parent
        listed, differs = listed["selection"]["init_args"], {"scope", "quantile"}
    assert set(listed) == differs
    if "rollout" in listed:
        rules = vars(inherited["rollout"])
        assert set(listed["rollout"]) == {k for k, v in vars(own.rollout).items() if v != rules[k]}


def test_the_yaml_of_grpo_lists_every_key():
    config = yaml.safe_load((CONFIGS / "objective" / "grpo.yaml").read_text())
    assert set(config["init_args"]) == {field.name for field in fields(objectives.GRPO)}
    assert set(config["init_args"]["rollout"]) == {field.name for field in fields(RolloutRules)}


def _default(field):
    return field.default if field.default is not MISSING else field.default_factory()


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: path.stem)
def test_task_yamls_list_every_argument(path):
    """And the rules about rows and lengths that go with the task."""
    config = yaml.safe_load(path.read_text())
    settings = config.pop("task")
    cls = getattr(tasks, settings["class_path"].rpartition(".")[2])
    assert set(settings["init_args"]) == set(inspect.signature(cls).parameters)
    assert {"max_prompt_tokens", "max_new_tokens", "on_bad_row", "duplicates"} <= set(config)
    assert set(config) <= set(inspect.signature(RolloutDataModule).parameters)


def test_benchmarks_are_validated_as_often_as_in_the_paper(tmp_path):
    for name in ("aime24", "aime25", "amc23", "math_500", "minerva", "olympiad_bench"):
        cli = build([f"task={name}"], tmp_path)
        assert cli.datamodule.task.name == name
        assert cli.datamodule.validation.samples == (32 if name.startswith("a") else 4)


def test_every_group_folder_is_known():
    assert {path.parent.name for path in GROUP_FILES} <= FIT.first


def test_defaults_build(tmp_path):
    cli = build([], tmp_path)
    assert type(cli.model.objective).__name__ == "STAPO"
    assert cli.folder == tmp_path / "stapo-arithmetic-seed0" / "version_0"


# Those of the paper name weights that are not here; test_experiments.py looks at their settings.
SMALL_EXPERIMENTS = [
    path
    for path in sorted(CONFIGS.glob("experiment/*.yaml"))
    if "experiment: paper" not in path.read_text() and path.stem != "paper"
]


@pytest.mark.parametrize("path", SMALL_EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_builds_and_is_in_the_run_s_name(path, tmp_path):
    cli = build([f"experiment={path.stem}"], tmp_path)
    objective = yaml.safe_load(path.read_text())["objective"]
    assert cli.folder == tmp_path / f"{path.stem}-{objective}-arithmetic-seed0" / "version_0"


def test_words_win_over_an_experiment(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "objective: grpo\nobjective.kl_coef: 0.5\ntask: gsm8k\ntask.validation_size: 3\n"
        "model: {optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.5}}}\n"
        "data: {group_size: 4, grading: {workers: 1}}\ntrainer.max_epochs: 3\n"
    )
    cli = build(["task=arithmetic", f"experiment={mine}", "data.group_size=2"], tmp_path)
    assert cli.model.objective == objectives.GRPO(kl_coef=0.5)
    assert type(cli.datamodule.task).__name__ == "Arithmetic" and cli.trainer.max_epochs == 3
    assert (cli.datamodule.sizes.group_size, cli.datamodule.grading.workers) == (2, 1)
    assert cli.config.model.optimizer.class_path == "torch.optim.SGD"
    assert cli.folder.parent.name == "mine-grpo-arithmetic-group_size2-seed0"
    cli = build(["objective=justrl", f"experiment={mine}", "task=arithmetic"], tmp_path)
    assert cli.model.objective == objectives.JustRL()


def test_runs_of_two_files_of_one_class_have_two_names(tmp_path):
    cli = build(["objective=stapo_v1"], tmp_path)
    assert cli.folder == tmp_path / "stapo_v1-arithmetic-seed0" / "version_0"


def test_a_selection_goes_on_any_objective_in_one_word(tmp_path):
    cli = build(
        ["objective=grpo", "objective.selection=S2T", "objective.selection.tau_p=0.01"], tmp_path
    )
    assert type(cli.model.objective).__name__ == "GRPO"
    assert cli.model.objective.selection == objectives.S2T(tau_p=0.01)


def test_switching_objectives_keeps_no_value_of_the_other(tmp_path):
    cli = build(["objective=dapo", "objective=grpo"], tmp_path)
    assert cli.model.objective == objectives.GRPO()


def test_values_win_over_files_whatever_the_order(tmp_path):
    cli = build(["objective.tau_p=0.001", "objective=stapo"], tmp_path)
    assert cli.model.objective.selection.tau_p == 0.001


def test_interpolation_and_flags(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "data:\n  prompts_per_rollout: 16\n  prompts_per_mini_batch: ${data.prompts_per_rollout}\n"
    )
    cli = build([f"--config={file}", "--data.group_size", "4", "seed_everything=7"], tmp_path)
    assert cli.datamodule.sizes.prompts_per_mini_batch == 16
    assert (cli.datamodule.sizes.group_size, cli.datamodule.seed) == (4, 7)
