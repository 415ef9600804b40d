"""Whole runs, small, by the command line's words."""

from __future__ import annotations

import json
import math

import lightning as L
import pytest
import torch
import yaml
from datasets import Dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stapo_pl.cli.fit import StapoCLI
from stapo_pl.cli.grammar import expand
from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.tasks import Arithmetic
from support.fitting import VALIDATED, fit, flat, make, rig, scalars
from support.places import CONFIGS
from support.rows import verl_row

PER_STEP = [
    "loss",
    "entropy",
    "grad_norm",
    "silenced_fraction",
    "rare_fraction",
    "clip_fraction_low",
    "clip_fraction_high",
    "ratio_max",
    "kl_old",
    "kl_reference",
    "lr",
]
PER_ROLLOUT = [
    "reward/mean",
    "reward/std",
    "reward/zero_signal_fraction",
    "rollout/length_mean",
    "rollout/truncated_fraction",
    "rollout/sampler_gap_max",
    "rollout/sampler_gap_mean",
    "rollout/sampler_gap_kl",
    "time/rollout_s",
    "time/sync_s",
    "time/score_s",
    "time/update_s",
    "throughput/samples_per_s",
    "throughput/tokens_per_s",
]


def test_curves_and_table(tmp_path, capsys):
    cli = fit(make(tmp_path, "objective=stapo", "objective.kl_coef=0.01", VALIDATED))
    curves = scalars(cli)
    for name in PER_STEP:
        assert [step for step, _ in curves[f"policy/{name}"]] == [0, 1, 2, 3], name
    for name in PER_ROLLOUT:
        assert len(curves[name]) == 2, name
    for name in ("val/accuracy_greedy", "val/accuracy", "val/pass_at_k"):
        assert len(curves[name]) == 3 and curves[name][0][0] == 0, name
    assert all(math.isfinite(value) for curve in curves.values() for _, value in curve)
    # The first update of a rollout is on-policy, and the reference is the policy at first.
    assert curves["policy/ratio_max"][0][1] == 1 and curves["policy/kl_old"][0][1] == 0
    assert curves["policy/kl_reference"][0][1] == 0 < curves["policy/kl_reference"][3][1]
    assert curves["policy/lr"][3][1] == pytest.approx(
        cli.model.optimizer([torch.ones(1)]).defaults["lr"] * 0.3
    )
    assert all(0 < gap < 1e-3 for _, gap in curves["rollout/sampler_gap_max"])
    output = capsys.readouterr().out
    for text in (
        "8 prompts x 4 responses = 32 samples", "val/accuracy_greedy", "val/accuracy ",
        "reward/mean", "policy/entropy", "policy/grad_norm", "policy/silenced_fraction",
        "throughput/samples_per_s", f"tensorboard --logdir {cli.folder}", "4 optimizer steps",
        "sampler     transformers, as there is no GPU",
    ):  # fmt: skip
        assert text in output, text
    events = EventAccumulator(str(cli.folder))
    events.Reload()
    tags = events.Tags()["tensors"]
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    hparams = yaml.safe_load((cli.folder / "hparams.yaml").read_text())
    assert hparams["data.group_size"] == 4 and hparams["model.objective.selection.tau_p"] == 0.002
    assert len(list(cli.folder.glob("events*"))) == 1
    assert "config/text_summary" in tags and "completions/text_summary" in tags
    assert "tau_p" in (cli.folder / "config.yaml").read_text()
    assert (cli.folder / "checkpoints" / "rollout-00001.ckpt").is_file()
    # The reference is in no checkpoint.
    state = torch.load(cli.folder / "checkpoints" / "rollout-00001.ckpt", weights_only=False)
    assert all(name.startswith("policy.model.") for name in state["state_dict"])


def load_weights(cli: StapoCLI) -> list[torch.Tensor]:
    cli.model.configure_model()
    return [p.detach().clone() for p in cli.model.policy.parameters()]


class WatchWeights(L.Callback):
    """Compares what the sampler samples from with what the optimizer made."""

    def __init__(self):
        self.after_step: list[torch.Tensor] = []
        self.sampled_from: list[torch.Tensor] = []

    def setup(self, trainer, pl_module, stage):
        engine = next(c.engine for c in trainer.callbacks if hasattr(c, "engine"))
        generate = engine.generate

        def watched(requests, decoding, ended):
            if not trainer.validating:
                self.sampled_from.append(flat(engine.model))
            return generate(requests, decoding, ended)

        engine.generate = watched

    def on_train_start(self, trainer, pl_module):
        self.after_step.append(flat(pl_module.policy.model))

    def on_train_batch_end(self, trainer, pl_module, *args):
        if (trainer.fit_loop.epoch_loop.batch_progress.current.ready) % 2 == 0:
            self.after_step.append(flat(pl_module.policy.model))


def test_a_rollout_uses_the_weights_after_the_last_step_of_the_one_before(tmp_path):
    watch = WatchWeights()
    fit(
        make(
            tmp_path,
            "trainer.max_epochs=3",
            "trainer.check_val_every_n_epoch=9",
            "model.warmup_steps=0",
        ),
        watch,
    )
    assert len(watch.sampled_from) == 3 and len(watch.after_step) == 1 + 3 * 2
    for rollout, weights in enumerate(watch.sampled_from):
        assert torch.equal(weights, watch.after_step[2 * rollout])
    assert not torch.equal(watch.sampled_from[1], watch.after_step[1])


def test_the_policy_is_updated_in_training_mode_only_if_it_is_to_drop(tmp_path):
    """Scoring and validation switch to evaluation mode and back, whatever the mode of updates."""
    modes = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            modes.append(all(module.training for module in pl_module.policy.modules()))

    for dropout in (False, True):
        words = (f"model.dropout={dropout}", "data.prompts_per_mini_batch=8", VALIDATED)
        fit(make(tmp_path, "objective=stapo", *words), Watch())
    assert modes == [False] * 4 + [True] * 4


def test_a_stale_micro_batch_is_refused(tmp_path):
    cli = make(tmp_path)

    class Stale(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            batch.mini_batch.rollout.version -= 1

    with pytest.raises(AssertionError, match="stale micro-batch"):
        fit(cli, Stale())


@pytest.mark.parametrize("statistic", ["loss", "grad_norm"])
def test_a_value_that_is_not_finite_stops_the_run_and_leaves_the_policy(tmp_path, statistic):
    cli = make(tmp_path, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=9")

    class Poison(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 3:
                self.weights = flat(pl_module.policy.model)
                if statistic == "loss":
                    batch.tokens.advantages_T[0] = torch.nan

        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == 3 and statistic == "grad_norm":
                next(pl_module.policy.parameters()).grad[0, 0] = torch.inf

    poison = Poison()
    with pytest.raises(TrainingError, match=f"step 3: policy/{statistic} is (nan|inf)"):
        fit(cli, poison)
    assert torch.equal(flat(cli.model.policy.model), poison.weights)


def test_an_empty_mini_batch_is_a_skipped_step(tmp_path, capsys):
    """Weight decay and momentum would move the policy even where the gradient is zero."""
    cli = make(
        tmp_path, "objective=dapo", "objective.dynamic_sampling.max_rounds=1",
        "model.optimizer.weight_decay=0.5", "model.warmup_steps=0",
    )  # fmt: skip
    # Groups of 4: the first rollout has mixed groups only, the second one, its first.
    rig(cli, lambda n: 0.2 + 0.1 * (n % 4) if n < 32 + 4 else 0.2)
    watch = WatchWeights()
    fit(cli, watch)
    assert not torch.equal(watch.after_step[3], watch.after_step[2])
    assert torch.equal(watch.after_step[4], watch.after_step[3])
    assert cli.trainer.global_step == 4
    curves = scalars(cli)
    assert curves["policy/skipped_steps"] == [(3, 1.0)]
    assert [step for step, _ in curves["policy/loss"]] == [0, 1, 2]
    output = capsys.readouterr().out
    assert "\n3 optimizer steps and 1 skipped (no token taught) in " in output
    assert "never updated" not in output and "in a row" not in output


def test_a_step_is_the_same_however_lightning_accumulates_it(tmp_path):
    """Loss scaling and metrics: those of the whole mini-batch for any number of micro-batches."""
    config = tmp_path / "sgd.yaml"
    config.write_text(
        "model: {optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}, warmup_steps: 0}"
    )
    weights, curves = [], []
    for cut in (1, 2, 4):
        cli = make(
            tmp_path, f"--config={config}", "objective=stapo", "objective.tau_p=0.2",
            "objective.kl_coef=0.1", "objective.entropy_coef=0.1", "trainer.precision=64-true",
            f"trainer.accumulate_grad_batches={cut}", "trainer.gradient_clip_val=null",
            "trainer.max_epochs=1", "data.prompts_per_mini_batch=8",
        )  # fmt: skip
        fit(cli)
        weights.append(flat(cli.model.policy.model))
        curves.append({k: v for k, v in scalars(cli).items() if k.startswith("policy/")})
    assert weights[0].dtype == torch.float64
    start = torch.cat([w.flatten() for w in load_weights(make(tmp_path))])
    moved = (weights[0] - start).norm()
    assert moved > 0 and curves[0]["policy/silenced_fraction"][0][1] > 0
    for other, curve in zip(weights[1:], curves[1:], strict=True):
        # Not 1e-9 as in test_invariance.py: RMSNorm computes in fp32, and this model is larger.
        assert (other - weights[0]).norm() / moved < 1e-7
        for name, values in curves[0].items():
            assert curve[name] == [
                (step, pytest.approx(v, rel=1e-5, abs=1e-9)) for step, v in values
            ]
    # The logged norm is the one before clipping, and lr * norm is how far a step of SGD goes.
    assert curves[0]["policy/grad_norm"][0][1] == pytest.approx(float(moved) / 0.1, rel=1e-5)
    clipped = make(
        tmp_path, f"--config={config}", "objective=stapo", "trainer.gradient_clip_val=0.001",
        "trainer.max_epochs=1", "data.prompts_per_mini_batch=8",
    )  # fmt: skip
    assert scalars(fit(clipped))["policy/grad_norm"][0][1] > 0.002
    moved = (flat(clipped.model.policy.model) - start).norm()
    assert float(moved) == pytest.approx(0.1 * 0.001, rel=1e-2)


def test_the_first_update_serves_as_its_own_scoring_pass(tmp_path):
    """Unscored, where no selection asks: the losses are those of a run that scores all."""
    lazy = fit(make(tmp_path, "objective=grpo"))
    all_kept = ("objective.selection=TopEntropy", "objective.selection.fraction=1.0")
    eager = fit(make(tmp_path, "objective=grpo", *all_kept))
    for name in ("policy/loss", "policy/ratio_max", "policy/kl_old", "rollout/sampler_gap_max"):
        assert scalars(lazy)[name] == scalars(eager)[name], name


def test_the_table_shows_a_validation_of_the_last_step(tmp_path):
    cli = fit(make(tmp_path, "trainer.check_val_every_n_epoch=9", VALIDATED))
    assert [step for step, _ in scalars(cli)["val/accuracy"]] == [0, 3]  # at the step it is of


def test_epochs_per_rollout(tmp_path):
    cli = fit(make(tmp_path, "data.epochs_per_rollout=2", "trainer.max_epochs=1"))
    assert cli.trainer.global_step == 4


def test_schedules(tmp_path):
    words = ("model.warmup_steps=1", "trainer.max_epochs=1", "data.prompts_per_mini_batch=2")
    peak = make(tmp_path).model.optimizer([torch.ones(1)]).defaults["lr"]
    shape = {"constant": [0, 1, 1, 1], "linear": [0, 1, 2 / 3, 1 / 3], "cosine": [0, 1, 0.75, 0.25]}
    for name, expected in shape.items():
        cli = fit(make(tmp_path, f"model.lr_schedule={name}", *words))
        rates = [value / peak for _, value in scalars(cli)["policy/lr"]]
        assert rates == pytest.approx(expected), name


def test_verl_rows_run_the_whole_path(tmp_path):
    file = tmp_path / "rows.parquet"
    rows = [verl_row(f"What is {i}+{i}?", str(2 * i)) for i in range(30)]
    Dataset.from_list([*rows, verl_row("x" * 2000, "1")]).to_parquet(file)
    task = ("task=file", f"task.path={file}", "task.validation_size=4")
    with pytest.raises(ConfigError, match=r"rows.parquet, row 31: a prompt of \d+ tokens"):
        fit(make(tmp_path, "data.max_new_tokens=16", task=task))
    skip = ("data.on_bad_row=skip", "data.max_new_tokens=16")
    cli = fit(make(tmp_path, *skip, task=task))
    assert cli.trainer.global_step == 4
    counts = cli.datamodule.prompts.counts
    assert (counts["training"].too_long, counts["validation"].too_long) == (1, 0)
    assert cli.datamodule.describe().splitlines()[-2:] == [
        "training    26 prompts of 27 rows; dropped: 1 longer than data.max_prompt_tokens=1024",
        "validation  4 prompts",
    ]

    # The same file with another answer, or in another order, is not what the run was started with.
    changed = [*rows[:-1], verl_row("What is 29+29?", "59")]
    for other in (changed, rows[::-1]):
        Dataset.from_list(other).to_parquet(file)
        with pytest.raises(ConfigError, match=rf"training prompts or answers of {file} are not"):
            fit(make(tmp_path, *skip, "ckpt_path=last", task=task))
    named = f"ckpt_path={next((cli.folder / 'checkpoints').glob('*.ckpt'))}"
    with pytest.warns(UserWarning, match="going on with the new ones"):
        fit(make(tmp_path, *skip, named, task=task))


def test_prompts_with_tokens_that_the_model_has_not_are_refused(tmp_path):
    cli = make(tmp_path)
    cli.model.model_config.vocab_size = 5
    with pytest.raises(ConfigError, match=r"the training prompts have tokens .* vocab_size is 5"):
        fit(cli)


def test_runs_are_equal_whatever_came_before(small_run, tmp_path):
    """The same seed gives the same run, in a process that has drawn other random numbers."""
    first = scalars(small_run)["policy/loss"]
    torch.rand(17)
    assert scalars(fit(make(tmp_path)))["policy/loss"] == first
    assert scalars(fit(make(tmp_path, "seed_everything=1")))["policy/loss"] != first


def test_benchmark_rows_run_the_whole_path(tmp_path, benchmark_folder):
    file = benchmark_folder / "MATH-500.parquet"
    task = ("task=file", f"task.path={file}", "task.validation_size=4")
    words = ("data.max_new_tokens=32", "data.on_bad_row=skip")
    cli = fit(make(tmp_path, *words, task=task))
    assert cli.trainer.global_step == 4
    counts = cli.datamodule.prompts.counts["training"]
    kept, dropped = counts.prompts, counts.too_long
    assert kept == len(cli.datamodule.prompts.train) and dropped > 0
    assert kept + dropped == 496  # 4 are held out
    prompt = cli.datamodule.prompts.train[0]
    text = cli.model.tokenizer.decode(prompt.token_ids)
    assert text == prompt.problem.messages[0]["content"]  # rows in verl's format are as they are


def test_gsm8k_rows_run_the_whole_path(tmp_path):
    file = tmp_path / "gsm8k.jsonl"
    rows = [{"question": f"{i} pens and {i} more?", "answer": f"#### {2 * i}"} for i in range(30)]
    file.write_text("\n".join(map(json.dumps, rows)))
    task = ("task=gsm8k", f"task.path={file}", "task.validation_split=null",
            "task.validation_size=4")  # fmt: skip
    cli = fit(make(tmp_path, "data.max_new_tokens=16", "data.max_prompt_tokens=512", task=task))
    assert cli.trainer.global_step == 4 and cli.folder.parent.name.startswith("stapo-gsm8k-")
    assert cli.datamodule.prompts.counts["training"].prompts == 26
    assert scalars(cli)["reward/timeouts"] == [(1, 0.0), (3, 0.0)]


@pytest.mark.gym
def test_reasoning_gym_runs_the_whole_path(tmp_path):
    task = ("task=reasoning_gym", "task.names=[chain_sum,leg_counting]", "task.train_size=40",
            "task.validation_size=4")  # fmt: skip
    cli = fit(make(tmp_path, "data.max_new_tokens=16", task=task))
    assert cli.trainer.global_step == 4
    sources = {prompt.problem.data_source for prompt in cli.datamodule.prompts.train}
    assert sources == {"chain_sum", "leg_counting"}


def test_benchmarks_are_validated_on_each_by_itself(tmp_path):
    """Two sets of other sizes and samples; what is logged as val/... is their mean."""
    words = ("benchmark=arithmetic,file", "benchmark.validation_size=8")
    file = tmp_path / "rows.jsonl"
    rows = [
        {"problem": problem.messages[0]["content"], "answer": problem.answer}
        for problem in Arithmetic(train_size=8).train_problems().problems
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    chosen = expand(words, CONFIGS)[0]
    benchmarks = json.loads(chosen.partition("=")[2])
    table = benchmarks["file"]
    table["samples"] = 3
    table["task"]["init_args"] |= {"path": str(file), "prompt": "problem", "answer": "answer",
                                   "template": None}  # fmt: skip
    cli = fit(
        make(tmp_path, "data.benchmarks=" + json.dumps(benchmarks), "reward=math",
             "trainer.max_epochs=1", VALIDATED)
    )  # fmt: skip
    curves = scalars(cli)
    for metric in ("accuracy", "pass_at_k", "majority_at_k", "truncated_fraction"):
        parts = [curves[f"val/{name}/{metric}"] for name in ("arithmetic", "file")]
        assert all(len(part) == 2 for part in parts)
        mean = [(a + b) / 2 for (_, a), (_, b) in zip(*parts, strict=True)]
        assert [v for _, v in curves[f"val/{metric}"]] == pytest.approx(mean), metric
    thirds = 3 * 8 * curves["val/file/accuracy"][0][1]
    assert thirds == pytest.approx(round(thirds), abs=1e-4) and thirds > 0
    # Responses of the rollouts were judged by another reward, in workers of their own.
    assert type(cli.datamodule.task.reward).__name__ == "Math"


def test_a_reward_that_raises_ends_the_run_and_saves_the_response(tmp_path, monkeypatch):
    (tmp_path / "bad_rewards.py").write_text("def bad(response, problem):\n    return 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    cli = make(tmp_path, "reward=function", "reward.path=bad_rewards.bad")
    with pytest.raises(TrainingError, match=r"(?s)bad_rewards.py.*ZeroDivisionError"):
        fit(cli)
    saved = json.loads((cli.folder / "failed_response.json").read_text())
    assert saved["problem"]["messages"][0]["content"].startswith("Compute")


def test_components_of_a_weighted_reward_are_curves(tmp_path):
    cli = fit(make(tmp_path, "reward=weighted", "trainer.max_epochs=1"))
    curves = {name: values[0][1] for name, values in scalars(cli).items()}
    assert curves["reward/terms/math"] == curves["reward/accuracy"]
    total = curves["reward/terms/math"] + 0.1 * curves["reward/terms/format"]
    assert curves["reward/mean"] == pytest.approx(total)
