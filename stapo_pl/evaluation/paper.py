"""The results that STAPO's paper reports (2602.15620v1).

They are accuracies in per cent, by size of the model, decoding, method and benchmark.
"""

from __future__ import annotations

# The benchmarks of the paper. `benchmark=all` stands for them.
PAPER_BENCHMARKS = ("aime24", "aime25", "amc23", "math_500", "minerva", "olympiad_bench")
# The numbers of parameters of the paper's models (Qwen3), in billions.
_SIZES = {"1.7B": 1.72, "8B": 8.19, "14B": 14.77}
# The largest relative difference at which a model still counts as one of these sizes.
_TOLERANCE = 0.2

_METHODS = ("GRPO", "20-Entropy", "JustRL", "STAPO")
# Temperature and top-p of the paper's two decodings.
_FULL, _NUCLEUS = (1.0, 1.0), (0.7, 0.9)
# For each size and decoding, one row a method and one column a benchmark.
_ACCURACY = {
    ("1.7B", _FULL): (
        (6.88, 4.06, 40.47, 68.60, 32.44, 30.64),
        (13.33, 8.44, 46.56, 69.85, 28.03, 35.65),
        (8.85, 6.25, 45.39, 62.70, 22.61, 29.15),
        (17.40, 15.42, 55.94, 73.55, 28.22, 38.54),
    ),
    ("1.7B", _NUCLEUS): (
        (10.83, 4.06, 41.17, 67.15, 32.53, 30.64),
        (13.85, 7.60, 44.53, 69.10, 29.04, 34.35),
        (14.58, 10.93, 51.09, 69.75, 28.89, 34.16),
        (16.04, 14.27, 52.42, 70.30, 29.42, 37.87),
    ),
    ("8B", _FULL): (
        (31.25, 24.69, 75.23, 88.90, 55.88, 61.50),
        (31.25, 27.50, 79.92, 89.85, 54.78, 62.50),
        (25.21, 21.98, 73.52, 84.90, 47.33, 51.26),
        (33.44, 28.65, 79.92, 90.40, 57.17, 62.98),
    ),
    ("8B", _NUCLEUS): (
        (32.40, 24.17, 74.14, 88.85, 53.58, 58.34),
        (35.10, 27.39, 80.00, 89.85, 54.23, 60.39),
        (34.06, 26.04, 81.48, 87.55, 51.03, 56.57),
        (39.48, 29.37, 80.23, 91.40, 55.70, 63.32),
    ),
    ("14B", _FULL): (
        (42.19, 30.31, 81.95, 90.05, 55.15, 64.76),
        (42.08, 34.06, 84.45, 91.65, 51.10, 61.30),
        (37.40, 26.56, 81.95, 87.65, 43.84, 57.01),
        (46.98, 35.21, 87.11, 92.45, 59.47, 68.21),
    ),
    ("14B", _NUCLEUS): (
        (40.52, 32.40, 78.12, 92.00, 57.54, 64.28),
        (51.25, 39.48, 87.73, 92.30, 54.78, 63.95),
        (52.08, 38.96, 89.61, 94.25, 58.92, 68.81),
        (54.27, 41.67, 90.62, 93.85, 59.93, 71.62),
    ),
}


def size_of(parameters: int) -> str | None:
    """Returns the size of the paper's model with about as many parameters, or None.

    Example:
        >>> size_of(2_031_739_904), size_of(408_864)
        ('1.7B', None)
    """
    for size, billions in _SIZES.items():
        if abs(parameters / (billions * 1e9) - 1) <= _TOLERANCE:
            return size
    return None


def reported(
    size: str | None, temperature: float, top_p: float, benchmark: str
) -> dict[str, float]:
    """Returns the accuracy of each method in the paper, as a fraction between 0 and 1.

    The result is empty if the paper reports nothing for this size, decoding and benchmark.
    """
    rows = None if size is None else _ACCURACY.get((size, (temperature, top_p)))
    if rows is None or benchmark not in PAPER_BENCHMARKS:
        return {}
    column = PAPER_BENCHMARKS.index(benchmark)
    return {m: row[column] / 100 for m, row in zip(_METHODS, rows, strict=True)}
