"""The paper's run by its one command, with a tiny model, short lengths and two rollouts."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from stapo_pl.evaluation.paper import PAPER_BENCHMARKS
from support.base_model import END, dapo_rows, make_base_model
from support.commands import run_ranks
from support.fitting import read_scalars, read_texts
from support.rows import write

pytestmark = pytest.mark.vllm


def test_two_rollouts_of_the_papers_run(tmp_path, benchmark_folder):
    files = benchmark_folder.glob("*.parquet")
    asked = [row["prompt"][0]["content"] for f in files for row in pq.read_table(f).to_pylist()]
    overlong = dapo_rows(1, 1)
    overlong[0]["prompt"][0]["content"] = "long " * 3000
    rows = [*dapo_rows(600, 3), *overlong]
    result = run_ranks(
        "fit", 2, "experiment=stapo_qwen3_1.7b", f"run.logs={tmp_path}", "run.name=paper",
        f"model.path={make_base_model(tmp_path / 'model', asked)}",
        f"task.path={write(tmp_path / 'dapo.parquet', rows)}",
        f"benchmark.path={benchmark_folder}", "benchmark.samples=1",
        "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2",
        "trainer.check_val_every_n_epoch=2", "run.completions_every=1",
        "data.max_prompt_tokens=2048", "data.max_new_tokens=24",
        "data.validation.max_new_tokens=8", "data.max_tokens_per_micro_batch=4096",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for line in (
        "256 prompts x 8 responses = 2048 samples, 1024 on each of 2 rank(s)",
        "4 mini-batches of 64 prompts (512 samples) x 1 epoch(s) = 4 optimizer steps",
        "as many micro-batches a mini-batch as 4096 tokens in each make",
        f"ends at     {END} (",
        "600 prompts of 1801 rows; dropped: 1200 duplicates (0 with another answer), 1 bad rows",
    ):
        assert line in result.stdout
    (folder,) = (tmp_path / "paper").iterdir()
    shown = "".join(read_texts(folder, "completions"))
    # A base model is asked in plain words, though its tokenizer has a template.
    assert "?\n    Please reason step by step" in shown and "<|im_start|>" not in shown
    curves = read_scalars(folder)
    for name in PAPER_BENCHMARKS:
        for decoding in ("", "@T0.7-p0.9"):
            assert len(curves[f"val/{name}/accuracy{decoding}"]) == 2
    assert [step for step, _ in curves["policy/loss"]] == list(range(8))
    assert all(norm > 0 for _, norm in curves["policy/grad_norm"])
    assert all(0 < share < 0.02 for _, share in curves["policy/silenced_fraction"])
    assert all(-1 < reward < 0 for _, reward in curves["reward/mean"])
    assert all(gap < 1e-4 for _, gap in curves["rollout/sampler_gap_max"])
    assert (folder / "checkpoints").is_dir()
