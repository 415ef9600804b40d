"""Training, evaluation and export end responses at the same tokens."""

from __future__ import annotations

import json

import pytest
from transformers import GenerationConfig

from stapo_pl.policy.export import export
from support.endings import END, OTHER
from support.evaluating import evaluate
from support.fitting import VALIDATED, fit, make, scalars


def test_a_model_whose_turns_end_in_another_token_than_its_eos(model, tmp_path, capsys):
    cli = make(
        tmp_path, "objective=grpo", f"model.path={model}", "trainer.max_epochs=1", VALIDATED,
        "data.stop_token_ids=[0]", "data.validation.samples=1", task=("task.validation_size=48",),
    )  # fmt: skip
    curves = scalars(fit(cli))
    assert "ends at     ! (0), <|end|> (504), <|endoftext|> (507)\n" in capsys.readouterr().out
    assert curves["rollout/truncated_fraction"][0][1] < 0.2
    assert 0.4 < curves["val/accuracy_greedy"][0][1] < 0.7
    (checkpoint,) = cli.folder.glob("checkpoints/*.ckpt")
    export(checkpoint, tmp_path / "exported")
    written = GenerationConfig.from_pretrained(tmp_path / "exported")
    assert written.eos_token_id == [0, END, OTHER] and written.pad_token_id == 505


def test_an_evaluation_ends_at_the_same_tokens(model, tmp_path, capsys):
    folder = evaluate(tmp_path, f"model.path={model}", "benchmark.samples=1")
    assert "ends at         <|end|> (504), <|endoftext|> (507)\n" in capsys.readouterr().out
    lines = (folder / "arithmetic" / "T0.7-p0.9" / "completions-0.jsonl").read_text().splitlines()
    about, *kept = map(json.loads, lines)
    assert about["end tokens"] == [END, OTHER]
    assert sum(line["truncated"] for line in kept) < 4
    assert not any("<|end" in line["text"] for line in kept)
    with pytest.raises(SystemExit):
        evaluate(tmp_path, f"model.path={model}", "benchmark.samples=1", "data.stop_token_ids=[0]")
    assert "was made with end tokens=[504, 507], not [0, 504, 507]" in capsys.readouterr().err
