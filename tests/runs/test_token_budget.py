"""Micro-batches that a number of tokens cuts: as many passes as are needed, the same gradients."""

from __future__ import annotations

import json
import random
from dataclasses import astuple

import pytest
import torch

from stapo_pl.core.types import Rollout
from stapo_pl.core.world import World
from stapo_pl.rollout.batching import balance, cut, runs_needed
from stapo_pl.rollout.dealing import deal
from stapo_pl.rollout.sizes import BatchSizes
from stapo_pl.training.events import MiniBatchDone
from support.carriers import trajectory
from support.curves import CURVES, RECORDED, curves_of, words_of
from support.fitting import Listener, fit, flat, make, scalars
from support.ranks import STEPS, assert_equal_curves, recorded, run


def test_as_few_runs_as_a_size_allows():
    draw = random.Random(0)
    for _ in range(300):
        lengths = [int(draw.lognormvariate(3, 1)) + 1 for _ in range(draw.randint(1, 40))]
        size = draw.randint(1, 3 * max(lengths))
        count = runs_needed(lengths, size)
        padded = [len(run) * max(lengths[i] for i in run) for run in balance(lengths, count) if run]
        assert max(padded) <= max(size, max(lengths))
        if count > 1:  # one run less would make one of them larger
            fewer = balance(lengths, count - 1)
            assert max(len(run) * max(lengths[i] for i in run) for run in fewer) > size
    assert runs_needed([], 10) == 1


def test_a_mini_batch_has_as_many_micro_batches_as_it_needs():
    short, long = ([trajectory([1], [2] * n) for _ in range(2)] for n in (3, 19))
    groups = [short, short, long, long]
    for place, group in enumerate(groups):
        for one in group:
            one.place = place
    batch = cut(Rollout(0, groups), 0, 0, BatchSizes(4, 2, 2, 1), 9, 1.0, None, World(), 20)
    assert [len(mini_batch.micro_batches) for mini_batch in batch.mini_batches] == [1, 4]


def test_no_rank_needs_more_micro_batches_than_lightning_is_told_of():
    """Whatever the lengths, and though ranks have unlike numbers of sequences."""
    draw, nearest = random.Random(0), 0.0
    for _ in range(600):
        ranks, longest = draw.choice([1, 2, 8]), draw.choice([20, 300, 5000])
        sizes = BatchSizes(8, draw.choice([2, 8]), 8, 1)
        spread = draw.choice([0.1, 1, 3])
        lengths = [
            [
                min(int(draw.lognormvariate(0, spread) * longest / 8) + 1, longest)
                for _ in range(8 * sizes.group_size // ranks)
            ]
            for _ in range(ranks)
        ]
        max_tokens = draw.choice([1, longest // 3, longest - 1, longest, 2 * longest, 9 * longest])
        most = sizes.most_micro_batches(ranks, longest, max_tokens)
        owners, held = deal(lengths), [[] for _ in range(ranks)]
        for of_rank, owners_of_rank in zip(lengths, owners, strict=True):
            for length, owner in zip(of_rank, owners_of_rank, strict=True):
                held[owner].append(length)
        needed = max(runs_needed(of_rank, max_tokens) for of_rank in held)
        assert needed <= most, (ranks, longest, max_tokens)
        nearest = max(nearest, needed / most)
    assert nearest == 1


def test_the_plan_knows_the_largest_micro_batch():
    sizes = BatchSizes(64, 8, 16, 1)  # 128 samples of a mini-batch

    def largest(ranks: int, micro_batches: int, max_tokens: int | None) -> tuple[int, ...]:
        return astuple(sizes.largest_micro_batch(ranks, micro_batches, 30, 70, max_tokens))

    assert largest(2, 4, None) == (16, 30, 70)
    assert largest(2, 4, 300) == (3, 30, 70)
    assert largest(2, 4, 350) == (4, 17, 70)  # four of 87 tokens are more than three of 100
    assert largest(2, 4, 199) == (2, 29, 70)
    assert largest(2, 4, 50) == (1, 30, 70)
    assert largest(64, 1, 10_000) == (100, 30, 70)
    assert largest(1, 1, 10**9) == (128, 30, 70)


@pytest.mark.parametrize("objective", ["stapo", "gspo", "otb", "entropy20"])
def test_curves_are_those_of_a_fixed_number_of_micro_batches(tmp_path, objective):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recorded = json.loads(RECORDED.read_text())[objective]
    words = (*words_of(objective), "data.max_tokens_per_micro_batch=150")
    curves = curves_of([*words, "sampler=support.replay.Replay"], tmp_path)
    torch.set_num_threads(threads)
    for name in CURVES:
        assert curves[name] == pytest.approx(recorded[name], rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("prune", ["true", "false"])
def test_passes_follow_the_lengths_of_each_mini_batch(tmp_path, prune):
    told = Listener(MiniBatchDone)
    words = ("data.max_tokens_per_micro_batch=300", "data.epochs_per_rollout=2")
    cli = make(tmp_path, *words, f"data.prune={prune}", "trainer.check_val_every_n_epoch=9")
    fit(cli, told)
    assert [step for step, _ in scalars(cli)["policy/loss"]] == list(range(8))
    counts = set()
    for event in told.heard:
        micros = [micro.lengths for micro in event.mini_batch.micro_batches]
        padded = [len(lengths) * max(lengths) for lengths in micros]
        assert max(padded) <= 300 or any(len(lengths) == 1 for lengths in micros)
        assert len(micros) == runs_needed([n for lengths in micros for n in lengths], 300)
        counts.add(len(micros))
    # Where sequences are left out, mini-batches differ in what they have to pass.
    assert len(counts) > (prune == "true")
    assert max(counts) <= cli.trainer.accumulate_grad_batches


def test_a_run_resumes_to_the_last_bit(tmp_path):
    words = ("data.max_tokens_per_micro_batch=300", "run.name=run", "run.checkpoint_every=1")
    weights = []
    for folder, ends in ((tmp_path / "whole", (3,)), (tmp_path / "resumed", (1, 3))):
        for last in ends:
            again = ("ckpt_path=last",) if last > ends[0] else ()
            cli = fit(make(folder, *words, f"trainer.max_epochs={last}", *again))
        weights.append(flat(cli.model.policy))
    assert torch.equal(*weights)


def test_a_run_goes_on_with_another_size(tmp_path):
    """As `--plan` may advise after there was no memory left: it is the same run."""
    words = (
        "run.checkpoint_every=1",
        "trainer.max_epochs={}",
        "data.max_tokens_per_micro_batch={}",
    )
    one = fit(make(tmp_path, *" ".join(words).format(1, 300).split()))
    two = fit(make(tmp_path, *" ".join(words).format(2, 200).split(), "ckpt_path=last"))
    assert two.folder == one.folder
    assert [step for step, _ in scalars(two)["policy/loss"]] == list(range(4))


def test_two_ranks_make_the_steps_of_one(tmp_path):
    one, words = recorded(tmp_path, "objective=stapo")
    two = run(tmp_path, 2, *words, "data.max_tokens_per_micro_batch=300")
    assert_equal_curves(two, one, STEPS)
