"""Peak memory and time of the language-model head's statistics, beside the naive way.

python scripts/benchmark_head.py
python scripts/benchmark_head.py --only-logprobs

Both ways answer with log-prob, entropy and collision probability of each token, and their loss
weighs all three. Peak extra memory is what forward and backward hold at most beyond their inputs
(hidden states, head, targets); in both it counts the gradients of hidden states and head. With
`--only-logprobs` only log-prob has a gradient, as in most of RL; then TRL's way stands beside the
two, which has no collision probability and no gradient of entropy.

Each measurement is a process of its own, and the ways take turns. Ratios are to the naive way.
"""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from stapo_pl.policy.statistics import token_statistics

# Matrices [tokens, vocabulary] in fp32 that the naive way holds at most, as measured.
_NAIVE_MATRICES = 5


def ours(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    statistics = token_statistics(hidden, weight, targets)
    return statistics.logprobs_T, statistics.entropy_T, statistics.collision_T


def naive(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    logits = F.linear(hidden, weight).float()
    logp = logits.log_softmax(-1)
    p = logp.exp()
    return logp.gather(-1, targets[:, None])[:, 0], -(p * logp).sum(-1), (p * p).sum(-1)


def trl(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    logits = F.linear(hidden, weight)
    with torch.no_grad():
        entropy = entropy_from_logits(logits)
    return selective_log_softmax(logits, targets), entropy


def kibibytes(path: str, name: str) -> int:
    """A number of one of Linux's tables `name: 123 kB`."""
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def available(device: str) -> int:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return kibibytes("/proc/meminfo", "MemAvailable") * 1024


def reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return kibibytes("/proc/self/status", "VmHWM") * 1024


def measure(way: Callable, tokens: int, args: Namespace) -> tuple[float, float]:
    """GiB of peak extra memory, and seconds, of one forward and backward."""
    generator = torch.Generator(args.device).manual_seed(0)
    make = partial(torch.randn, device=args.device, generator=generator)
    hidden = make(tokens, args.hidden).to(args.dtype).requires_grad_()
    weight = make(args.vocabulary, args.hidden).mul_(args.hidden**-0.5).to(args.dtype)
    weight.requires_grad_()
    targets = torch.randint(args.vocabulary, (tokens,), device=args.device, generator=generator)
    coefficients = make(3, tokens) / tokens

    def run(count: int) -> None:
        statistics = way(hidden[:count], weight, targets[:count])
        kept = statistics[:1] if args.only_logprobs else statistics
        sum(c[:count] @ s for c, s in zip(coefficients, kept, strict=False)).backward()

    # A GPU's memory is counted by PyTorch, which keeps it; a CPU's by the kernel, where a larger
    # run before would stay in the books.
    run(tokens if args.device == "cuda" else 8)
    hidden.grad = weight.grad = None
    reset_peak(args.device)
    before, start = peak(args.device), time.perf_counter()
    run(tokens)
    extra = peak(args.device) - before
    return extra / 2**30, time.perf_counter() - start


def alone(*arguments) -> tuple[float, float]:
    """`measure` in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def compare(tokens: int, ways: list[Callable], args: Namespace) -> None:
    """Prints the rows of one length."""
    need = 4 * _NAIVE_MATRICES * tokens * args.vocabulary
    if need > (there := available(args.device)):
        ways = [way for way in ways if way is not naive]
        reason = f"skipped: needs about {need / 2**30:.0f} GiB, {there / 2**30:.0f} are free"
        print(f"| {tokens} | naive | {reason} | | | |", flush=True)
    turns = [[alone(way, tokens, args) for way in ways] for _ in range(args.turns)]
    results = {
        way: [median(values) for values in zip(*runs, strict=True)]
        for way, runs in zip(ways, zip(*turns, strict=True), strict=True)
    }
    for way, (memory, seconds) in results.items():
        ratios = "| |"
        if naive in results:
            ratios = f"{memory / results[naive][0]:.3f} | {seconds / results[naive][1]:.2f} |"
        print(f"| {tokens} | {way.__name__} | {memory:.2f} | {seconds:.3g} | {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=1024, help="that of Qwen3-0.6B by default")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2**k for k in range(10, 15)])
    parser.add_argument("--dtype", type=partial(getattr, torch), default=torch.float32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only-logprobs", action="store_true")
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    print("| tokens | way | peak extra memory GiB | forward+backward s | memory | time |")
    print("|---|---|---|---|---|---|")
    for tokens in args.lengths:
        compare(tokens, [naive, ours] + [trl] * args.only_logprobs, args)


if __name__ == "__main__":
    main()
