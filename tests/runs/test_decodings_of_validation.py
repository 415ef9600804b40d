"""A validation samples with several decodings, and longer than training does."""

from __future__ import annotations

import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding
from stapo_pl.evaluation.validation import Validation
from support.fitting import VALIDATED, fit, make, scalars
from support.rows import verl_row, write

METRICS = ("accuracy", "pass_at_k", "majority_at_k", "truncated_fraction", "unparsed_fraction")


def test_the_metrics_of_another_decoding_carry_its_name(tmp_path):
    words = ("trainer.max_epochs=1", VALIDATED, "data.max_new_tokens=24")
    words += ("data.validation.more_decodings=[[0.7,0.9],[0.2,1.0]]",)
    words += ("data.validation.max_new_tokens=60",)
    cli = make(tmp_path, *words)
    seen: list[tuple[Decoding, int]] = []
    collect = cli.datamodule._collect_validation

    def watched(task, key, prompts, group_size, decoding):
        groups = collect(task, key, prompts, group_size, decoding)
        lengths = [len(t.completion.token_ids) for group in groups for t in group]
        seen.append((decoding, max(lengths)))
        return groups

    cli.datamodule._collect_validation = watched
    fit(cli)
    curves = scalars(cli)
    for metric in METRICS:
        for ending in ("", "@T0.7-p0.9", "@T0.2-p1"):
            assert len(curves[f"val/{metric}{ending}"]) == 2, ending
    assert "val/accuracy_greedy" in curves and "val/accuracy_greedy@T0.7-p0.9" not in curves
    decodings = {(d.temperature, d.top_p) for d, _ in seen}
    assert decodings == {(0.0, 1.0), (1.0, 1.0), (0.7, 0.9), (0.2, 1.0)}
    assert {d.max_new_tokens for d, _ in seen} == {60} and 24 < max(n for _, n in seen) <= 60
    # Training keeps its own limit, and the model must be able to read the longer of the two.
    assert curves["rollout/length_longest"][0][1] <= 24
    assert cli.datamodule.longest_response == 60


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"more_decodings": [(0.0, 1.0)]}, "got temperature=0.0, top_p=1.0"),
        ({"more_decodings": [(1.0, 0.0)]}, "got temperature=1.0, top_p=0.0"),
        ({"max_new_tokens": 0}, "data.validation.max_new_tokens must be at least 1, got 0"),
    ],
)
def test_a_decoding_out_of_range_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        Validation(**arguments)


def test_problems_that_nothing_asks_and_prompts_that_are_asked_again_are_said(tmp_path, capsys):
    rows = write(tmp_path / "rows.jsonl", [verl_row(f"{i} + 1?", str(i + 1)) for i in range(7)])
    words = ("benchmark=arithmetic", "benchmark.validation_size=4", "trainer.max_epochs=1")
    unused = "unused      2 problems that are held out"
    for size, lines in (
        (2, ("training    5 prompts\n", unused, "each of the 5 prompts about 1.6 times\n")),
        (0, ("training    7 prompts\n", "arithmetic  4 prompts\n", "7 prompts about 1.14 times\n")),
    ):
        task = ("task=file", f"task.path={rows}", f"task.validation_size={size}")
        fit(make(tmp_path, *words, task=task))
        printed = capsys.readouterr().out
        assert all(line in printed for line in lines)
        assert ("unused" in printed) == (size > 0)
