"""The gap between sampler and policy in whole runs: measured, warned of, corrected."""

from __future__ import annotations

import math

import pytest
import torch

from stapo_pl.core.errors import TrainingError
from stapo_pl.policy.loading import load_policy
from stapo_pl.policy.model import shipped_policy
from stapo_pl.samplers import TransformersSampler
from support.fitting import fit, make, scalars


class Off(TransformersSampler):
    """A sampler whose log-probabilities are not those of the policy, by 0.2 and once by 2."""

    def generate(self, requests, decoding, ended):
        completions = super().generate(requests, decoding, ended)
        for completion in completions:
            completion.logprobs = [logprob - 0.2 for logprob in completion.logprobs]
        completions[0].logprobs[0] -= 1.8
        return completions


def set_engine(cli, engine) -> None:
    next(c for c in cli.trainer.callbacks if hasattr(c, "engine")).engine = engine


def test_the_gap_is_measured_and_warned_of(tmp_path):
    words = ("objective=grpo", "trainer.max_epochs=1", "data.prompts_per_mini_batch=8")
    cli = make(tmp_path, *words, "data.prune=false")
    set_engine(cli, Off())
    with pytest.warns(
        UserWarning, match=r"step 0: the sampler's .* by 0\.2 in the mean \(KL 0\.02\d*, up to 2\)"
    ):
        fit(cli)
    curves = {name: values[0][1] for name, values in scalars(cli).items()}
    tokens = curves["rollout/tokens"]
    assert curves["rollout/sampler_gap_max"] == pytest.approx(2, rel=1e-3)
    mean = (0.2 * (tokens - 1) + 2) / tokens
    assert curves["rollout/sampler_gap_mean"] == pytest.approx(mean, rel=1e-3)
    kl = ((tokens - 1) * (math.exp(0.2) - 1.2) + math.exp(2) - 3) / tokens
    assert curves["rollout/sampler_gap_kl"] == pytest.approx(kl, rel=1e-2)


@pytest.mark.parametrize("source", ["recompute", "sampler"])
def test_a_gap_can_stop_the_run_before_the_first_update(tmp_path, source):
    cli = make(tmp_path, "model.on_sampler_gap=raise", f"data.old_logprobs={source}")
    set_engine(cli, Off())
    with pytest.raises(
        TrainingError, match=r"max_sampler_gap_mean=0\.05 and model\.max.*not updated"
    ):
        fit(cli)
    assert cli.trainer.global_step == 0
    start = load_policy(str(shipped_policy())).named_weights()
    for (_, before), (_, after) in zip(start, cli.model.policy.named_weights(), strict=True):
        assert torch.equal(before, after)


def test_corrections_in_a_run_are_logged(tmp_path):
    words = ("objective=grpo", "objective.correction=IcePop", "objective.correction.high=2")
    words += ("data.prune=false",)
    cli = make(tmp_path, *words, "trainer.max_epochs=1", "data.prompts_per_mini_batch=8")
    set_engine(cli, Off())
    with pytest.warns(UserWarning):
        curves = {name: values[0][1] for name, values in scalars(fit(cli)).items()}
    tokens = curves["rollout/tokens"]
    masked = curves["policy/correction_masked_fraction"]
    assert masked == pytest.approx(1 / tokens, rel=1e-3)
    assert curves["policy/correction_weight"] == pytest.approx(
        math.exp(0.2) * (1 - masked), rel=1e-3
    )
    assert curves["policy/correction_weight_max"] == pytest.approx(math.exp(0.2), rel=1e-3)
    assert curves["policy/silenced_fraction"] == 0  # counts what a selection silences


def test_a_correction_changes_nothing_in_a_run_whose_sampler_agrees(tmp_path):
    """Up to the sampler's own gap, which is about 1e-5 in fp32."""
    words = ("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=9")
    plain = scalars(fit(make(tmp_path, *words)))
    corrected = scalars(fit(make(tmp_path, *words, "objective.correction=SequenceTIS")))
    for name in ("policy/loss", "policy/grad_norm"):
        expected = [pytest.approx(value, rel=1e-3, abs=1e-6) for _, value in plain[name]]
        assert [value for _, value in corrected[name]] == expected


def test_cut_distributions_train_with_a_correction(tmp_path):
    """The weight of a token is the probability of the nucleus that it was drawn from."""
    cli = make(
        tmp_path, "data.top_p=0.9", "objective.correction=TokenTIS", "trainer.max_epochs=1",
        "model.max_sampler_gap_mean=1e-3", "model.on_sampler_gap=raise",
    )  # fmt: skip
    curves = scalars(fit(cli))
    weights = [value for _, value in curves["policy/correction_weight"]]
    assert all(0.9 < weight < 0.9999 for weight in weights)
    assert all(value <= 1 + 1e-4 for _, value in curves["policy/correction_weight_max"])
