"""Figures of evaluations, and the paper's beside them."""

from __future__ import annotations

from statistics import fmean

import pytest

from stapo_pl.core.types import Decoding
from stapo_pl.evaluation.figures import benchmark_figures as figures
from stapo_pl.evaluation.paper import PAPER_BENCHMARKS, reported, size_of
from stapo_pl.evaluation.report import table, with_paper
from stapo_pl.rewards import Response, Score


def groups(*rows: str) -> tuple[list[list[Response]], list[list[Score]]]:
    """A row a problem, a letter a sample: right, wrong, no answer, timeout."""
    kinds = {
        "r": Score(1, True, "4"),
        "w": Score(0, False, "5"),
        "n": Score(0, False, None),
        "t": Score(0, False, None, outcome="timeout"),
    }
    scores = [[kinds[letter] for letter in row] for row in rows]
    return [[Response("", 10, truncated=s.extracted is None) for s in g] for g in scores], scores


def test_figures_of_a_small_case():
    found = figures(*groups("rrww", "rwwn", "nntt"))
    assert found["accuracy"] == pytest.approx((0.5 + 0.25 + 0) / 3)
    assert found["pass_at_k"] == pytest.approx(
        {"1": 0.25, "2": (5 / 6 + 1 / 2) / 3, "4": 2 / 3}
    )  # fmt: skip
    assert found["majority_at_k"] == pytest.approx(0.5 / 3)
    assert found["truncated_fraction"] == found["unparsed_fraction"] == pytest.approx(5 / 12)
    assert (found["timeouts"], found["errors"], found["tokens_mean"]) == (2, 0, 10)
    assert (found["problems"], found["samples"]) == (3, 4)


def test_the_paper_stands_beside_figures_of_its_size():
    result = figures(*groups("rw"))
    rows = [
        with_paper(result, "8B", name, Decoding(96, 0.7, 0.9)) for name in ("aime24", "math_500")
    ]  # fmt: skip
    head, _, first, _, average = table(rows, "8B").splitlines()
    assert "paper: 8B STAPO" in head and first.rstrip(" |").endswith("39.48")
    assert average.startswith("| average") and average.rstrip(" |").endswith("65.44")
    assert "paper" not in table([with_paper(result, None, "aime24", Decoding(96, 1.0, 1.0))], None)
    assert "paper" not in table([with_paper(result, "8B", "gsm8k", Decoding(96, 1.0, 1.0))], "8B")


@pytest.mark.parametrize(
    "size, decoding, averages",
    [
        ("1.7B", (1.0, 1.0), (30.52, 33.64, 29.16, 38.18)),
        ("1.7B", (0.7, 0.9), (31.06, 33.08, 34.90, 36.72)),
        ("8B", (1.0, 1.0), (56.24, 57.63, 50.70, 58.76)),
        ("8B", (0.7, 0.9), (55.25, 57.83, 56.12, 59.92)),
        ("14B", (1.0, 1.0), (60.74, 60.77, 55.74, 64.905)),  # it prints 64.38 for STAPO
        ("14B", (0.7, 0.9), (60.81, 64.92, 67.11, 68.66)),
    ],
)
def test_the_papers_figures_have_the_averages_that_it_prints(size, decoding, averages):
    rows = [reported(size, *decoding, name) for name in PAPER_BENCHMARKS]
    for method, average in zip(("GRPO", "20-Entropy", "JustRL", "STAPO"), averages, strict=True):
        assert 100 * fmean(row[method] for row in rows) == pytest.approx(average, abs=0.011)


def test_sizes():
    assert [size_of(n) for n in (1_720_574_976, 8_190_735_360, 14_768_307_200)] == [
        "1.7B", "8B", "14B",
    ]  # fmt: skip
    assert size_of(4_022_468_096) is None
