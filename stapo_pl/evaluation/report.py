"""Makes tables of the figures of benchmarks, beside those of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from stapo_pl.core.types import Decoding
from stapo_pl.evaluation.paper import PAPER_BENCHMARKS, reported


def table(results: Sequence[dict[str, Any]], size: str | None) -> str:
    """Returns a Markdown table with a row for each benchmark and decoding, and their averages.

    Args:
        results: the figures of each benchmark and decoding, as `with_paper` returns them.
        size: the size of the paper's model that the table compares with. None if the paper has no
            model of this size.
    """
    methods = [*dict.fromkeys(m for result in results for m in result["paper"])]
    head = ["benchmark", "decoding", "problems", "avg@k", "95 % interval", "pass@k", "maj@k"]
    head += ["truncated", "unparsed", *(f"paper: {size} {method}" for method in methods)]
    rows = []
    for decoding in dict.fromkeys(result["decoding"] for result in results):
        of_it = [result for result in results if result["decoding"] == decoding]
        for result in of_it:
            low, high = result["interval"]
            rows.append(
                [
                    result["benchmark"],
                    decoding,
                    f"{result['problems']} x {result['samples']}",
                    _percent(result["accuracy"]),
                    f"{100 * low:.2f} to {100 * high:.2f}",
                    _percent(result["pass_at_k"][str(result["samples"])]),
                    _percent(result["majority_at_k"]),
                    _percent(result["truncated_fraction"]),
                    _percent(result["unparsed_fraction"]),
                    *(_percent(result["paper"].get(method)) for method in methods),
                ]
            )
        if len(of_it) > 1:
            average = fmean(result["accuracy"] for result in of_it)
            known = [
                fmean(result["paper"][m] for result in of_it)
                if all(m in result["paper"] for result in of_it)
                else None
                for m in methods
            ]
            blanks = [""] * 5
            rows.append(
                ["average", decoding, "", _percent(average), *blanks, *map(_percent, known)]
            )
    return markdown(head, rows)


def with_paper(
    result: dict[str, Any], size: str | None, benchmark: str, decoding: Decoding
) -> dict[str, Any]:
    """Returns figures together with their benchmark, their decoding, and the paper's figures.

    Args:
        result: the figures of a benchmark.
        size: the size of the paper's model to compare with, or None.
        benchmark: the name of the benchmark.
        decoding: the decoding that it was sampled with.
    """
    paper = reported(size, decoding.temperature, decoding.top_p, benchmark)
    where = {"benchmark": benchmark, "decoding": decoding.name}
    drawn = {"temperature": decoding.temperature, "top_p": decoding.top_p}
    return where | drawn | result | {"paper": paper}


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorts rows by decoding, with the highest temperature first, and then by benchmark.

    The paper's benchmarks come first, in the paper's order. Others follow by name.
    """

    def key(row: dict[str, Any]) -> tuple:
        name = row["benchmark"]
        is_other = name not in PAPER_BENCHMARKS
        place = name if is_other else PAPER_BENCHMARKS.index(name)
        return -row["temperature"], -row["top_p"], is_other, place

    return sorted(rows, key=key)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table whose columns are aligned."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])
