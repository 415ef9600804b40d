"""A teacher says of each token of the policy's responses how likely it would have been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.loading import load_policy, load_tokenizer
from stapo_pl.policy.model import shipped_policy
from stapo_pl.training.events import MiniBatchDone
from support.fitting import Listener, fit, make, scalars


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """The shipped policy with other weights."""
    folder = tmp_path_factory.mktemp("teacher")
    model = load_policy(str(shipped_policy())).model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + 0.05 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    load_tokenizer(str(shipped_policy())).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("coef", [0.0, 0.5])
def test_advantages_are_the_teachers_view_of_each_token(tmp_path, teacher, coef):
    words = ("objective=opd", f"objective.token_advantage.reward_coef={coef}")
    told = Listener(MiniBatchDone)
    cli = fit(make(tmp_path, *words, f"model.teacher_path={teacher}", "data.temperature=0.9"), told)
    policy = load_policy(str(teacher))
    for event in told.heard:
        tokens, behavior_T = event.tokens, event.mini_batch.behavior.logprobs_T
        with torch.no_grad():
            micros = event.mini_batch.micro_batches
            teacher_T = torch.cat([policy(micro).logprobs_T for micro in micros])
        reward_T = torch.tensor([t.advantage for t in event.mini_batch.trajectories])
        expected_T = teacher_T - behavior_T + coef * reward_T[tokens.sequence_T]
        torch.testing.assert_close(tokens.advantages_T, expected_T, rtol=1e-4, atol=1e-5)
        # No sequence is left out, whatever its rewards are.
        assert not event.mini_batch.left_out
    assert all(norm > 0 for _, norm in scalars(cli)["policy/grad_norm"])
    # The teacher is not trained, and no checkpoint holds it.
    (path,) = cli.folder.glob("checkpoints/rollout-*.ckpt")
    saved = torch.load(path, weights_only=False)["state_dict"]
    assert set(saved) == {f"policy.{name}" for name in cli.model.policy.state_dict()}


def test_a_teacher_that_is_the_policy_teaches_nothing_at_first(tmp_path):
    cli = fit(make(tmp_path, "objective=opd", f"model.teacher_path={shipped_policy()}"))
    assert scalars(cli)["policy/grad_norm"][0][1] < 1e-5


def test_a_teacher_with_other_tokens_is_refused(tmp_path, teacher):
    other = tmp_path / "other"
    other.mkdir()
    for file in teacher.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = sorted(vocabulary, key=vocabulary.get)[20:22]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    message = rf"model.teacher_path=.*: its tokenizer is not that .* 4 entries differ, .* {one!r}"
    with pytest.raises(ConfigError, match=message):
        fit(make(tmp_path / "logs", "objective=opd", f"model.teacher_path={other}"))
