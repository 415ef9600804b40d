"""`stapo inspect --model`: one rollout of a model that is not trained, and its page."""

from __future__ import annotations

import json
import re

from stapo_pl.cli.inspect import main
from stapo_pl.policy.model import shipped_policy
from support.fitting import read_scalars


def test_a_model_is_sampled_and_graded_once_and_does_not_change(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = ["data.prompts_per_rollout=4", "data.prompts_per_mini_batch=4", "data.group_size=4"]
    quick = ["task.train_size=64", "task.validation_size=8", "data.grading.workers=1"]
    main(["--model", str(shipped_policy()), *sizes, *quick, "objective.tau_p=0.05"])
    folder = tmp_path / "logs" / "inspect-arithmetic" / "version_0"
    assert "in 16 completions" in capsys.readouterr().out
    curves = read_scalars(folder)
    assert [value for _, value in curves["policy/lr"]] == [0.0]
    assert not list(folder.rglob("*.ckpt"))
    text = (folder / "inspect.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    # Groups whose rewards are all equal have numbers, too.
    assert data["completions"]["count"] == [len(pieces) for pieces in data["completions"]["pieces"]]
    assert len(data["completions"]["correct"]) == 16 and None not in data["tokens"]["p"]
