"""From prompts to groups, mini-batches and micro-batches."""

from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import pytest
import torch

from stapo_pl.core.errors import TrainingError
from stapo_pl.core.types import Completion, Decoding, Prompt, Response, Rollout
from stapo_pl.core.world import World
from stapo_pl.objectives import DynamicSampling
from stapo_pl.rewards import Exact
from stapo_pl.rewards.grading.grader import Grader, Grading
from stapo_pl.rollout.batching import balance, collate, collate_all, split, spread
from stapo_pl.rollout.collector import Collector
from stapo_pl.rollout.metrics import rollout_metrics
from stapo_pl.rollout.rounds import fill_rollout
from stapo_pl.rollout.rules import RolloutRules
from stapo_pl.rollout.shaping import overlong_punishment
from stapo_pl.rollout.stream import PromptStream
from stapo_pl.tasks import Problem
from support.carriers import trajectory
from support.own_rewards import Obedient

PROMPTS = [Prompt([i], Problem([], str(i)), i) for i in range(50)]


def padded(lengths, runs) -> int:
    """The tokens of the largest pass."""
    return max(len(run) * max((lengths[i] for i in run), default=0) for run in runs)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_balance_uses_every_sequence_once(generator, count):
    lengths = torch.randint(10, 100, (64,), generator=generator).tolist()
    runs = balance(lengths, count)
    assert sorted(i for run in runs for i in run) == list(range(64))
    assert len(runs) == count and all(runs)


def test_the_largest_pass_is_as_small_as_can_be(generator):
    for _ in range(50):
        lengths = torch.randint(1, 30, (9,), generator=generator).tolist()
        order = sorted(range(9), key=lambda i: -lengths[i])
        best = min(
            padded(lengths, [order[:a], order[a:b], order[b:]])
            for a, b in combinations(range(1, 9), 2)
        )
        assert padded(lengths, balance(lengths, 3)) == best
    # Short sequences beside long ones are not padded to their length.
    assert padded([8000] * 8 + [100] * 24, balance([8000] * 8 + [100] * 24, 4)) == 3 * 8000


def test_balance_leaves_no_run_empty():
    assert [len(run) for run in balance([1000, 1, 1, 1], 4)] == [1, 1, 1, 1]
    assert [len(run) for run in balance([5, 5, 5], 5)].count(1) == 3
    assert balance([], 2) == [[], []]


def test_collate_lays_response_tokens_end_to_end():
    batch = collate(
        [
            trajectory([2, 3], [4, 5, 6], advantage=1.0, mask=[True, False, True]),
            trajectory([7], [8], advantage=-1.0),
        ],
        first_sequence=5,
        temperature=1.0,
    )
    assert batch.input_ids_S.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert batch.lengths == [5, 2]
    assert batch.tokens.token_ids_T.tolist() == [4, 6, 8]
    assert batch.predictor_T.tolist() == [1, 3, 5]
    assert batch.tokens.sequence_T.tolist() == [5, 5, 6]
    assert batch.tokens.advantages_T.tolist() == [1, 1, -1]


def test_micro_batches_of_a_mini_batch_without_samples_are_passes_that_teach_nothing():
    for micro in collate_all(spread([], 3), temperature=1.0):
        assert micro.lengths == [len(micro.input_ids_S)] == [1] and len(micro.tokens) == 0


def test_sequences_are_numbered_through_the_mini_batch():
    trajectories = [trajectory([1], [2] * n) for n in (3, 9, 4, 1)]
    numbers = torch.cat([m.tokens.sequence_T for m in collate_all(spread(trajectories, 3), 1.0)])
    assert numbers.unique().tolist() == [0, 1, 2, 3]


def test_overlong_punishment():
    # Equation 13 of DAPO with L_max 100 and L_cache 20.
    lengths = (1, 80, 85, 90, 100)
    assert [overlong_punishment(n, 100, 0.2) for n in lengths] == [0, 0, -0.25, -0.5, -1]
    assert overlong_punishment(100, 100, 0.0) == 0


def groups_with(correct: dict[int, list[bool]]):
    """A stand-in for sampling: which responses to the prompt at a position are right."""

    def sample(prompts):
        return [
            [
                trajectory([1], [2], correct=c, reward=float(c), position=p.position)
                for c in correct[p.position]
            ]
            for p in prompts
        ]

    return sample


def rollout_of(correct: dict[int, list[bool]], wanted: int, **dynamic):
    rule = DynamicSampling(**dynamic) if dynamic else None
    stream = PromptStream(PROMPTS, seed=0)
    return fill_rollout(stream, 0, wanted, groups_with(correct), rule, World(), torch.device("cpu"))


def places(rollout) -> list[int]:
    return [group[0].place for group in rollout.groups]


MIXED, RIGHT, WRONG = [True, False], [True, True], [False, False]


def test_without_dynamic_sampling_every_group_is_kept():
    rollout = rollout_of({0: RIGHT, 1: WRONG, 2: MIXED, 3: MIXED}, 4)
    assert len(rollout.groups) == 4 and places(rollout) == [0, 1, 2, 3] and rollout.cursor == 4


def test_dynamic_sampling_refills_with_mixed_groups_and_counts_the_rest():
    kinds = [RIGHT, MIXED, WRONG, MIXED, MIXED, RIGHT, MIXED, MIXED]
    rollout = rollout_of(dict(enumerate(kinds)), 4, max_rounds=5)
    assert [g[0].prompt.position for g in rollout.groups] == [1, 3, 4, 6]
    assert places(rollout) == [0, 1, 2, 3]
    assert (rollout.rounds, rollout.cursor) == (2, 8)
    assert (rollout.discarded_groups, rollout.surplus_groups) == (3, 1)
    assert len(rollout.sampled) == 8


def test_exhausted_dynamic_sampling_raises_or_trains_on_what_there_is():
    kinds = {i: MIXED if i == 2 else RIGHT for i in range(8)}
    with pytest.raises(TrainingError, match=r"found 1 mixed groups \(.*\) of the 4 .* 2 rounds"):
        rollout_of(kinds, 4, max_rounds=2, on_exhausted="raise")
    rollout = rollout_of(kinds, 4, max_rounds=2, on_exhausted="train")
    assert [len(batch) for batch in split(rollout.groups, 4, 2)] == [2, 0]


def test_what_there_is_spreads_over_the_mini_batches():
    kinds = {i: MIXED if i < 4 else RIGHT for i in range(16)}
    rollout = rollout_of(kinds, 8, max_rounds=2, on_exhausted="train")
    assert [len(batch) for batch in split(rollout.groups, 8, 4)] == [2, 2, 2, 2]


def test_groups_are_mixed_by_the_reward_before_punishments_not_by_the_verdict():
    # Of both responses to each prompt: reward, punishment, verdict.
    kinds = [
        [(0.3, 0.0, True), (0.7, 0.0, True)],
        [(0.5, 0.0, True), (0.5, 0.0, False)],
        [(1.0, 0.0, True), (1.0, -0.5, True)],
        [(-0.2, 0.0, False), (-0.1, 0.0, False)],
    ]

    def sample(prompts):
        groups = []
        for prompt in prompts:
            groups.append([])
            for reward, punishment, correct in kinds[prompt.position]:
                groups[-1].append(trajectory([1], [2], correct=correct, reward=reward))
                groups[-1][-1].reward += punishment
        return groups

    rule, stream = DynamicSampling(max_rounds=1), PromptStream(PROMPTS, 0)
    rollout = fill_rollout(stream, 0, 4, sample, rule, World(), torch.device("cpu"))
    assert [group[0].reward for group in rollout.groups] == [0.3, -0.2]
    assert rollout.discarded_groups == 2
    # Advantages are made of what was punished, so there the third one has a signal.
    metrics = rollout_metrics(rollout, [], World(), torch.device("cpu"))
    assert metrics["reward/zero_signal_fraction"] == 1 / 4
    assert metrics["rollout/length_right"] == metrics["rollout/length_wrong"] == 1


def test_lengths_are_those_of_right_and_of_wrong_responses():
    def lengths(*responses) -> dict[str, float]:
        group = [trajectory([1], [2] * n, correct=correct) for n, correct in responses]
        found = rollout_metrics(Rollout(0, sampled=[group]), [], World(), torch.device("cpu"))
        return {n.removeprefix("rollout/length_"): v for n, v in found.items() if "length" in n}

    found = lengths((3, True), (6, True), (9, False))
    assert found == {"mean": 6, "right": 4.5, "wrong": 9, "longest": 9}
    assert lengths((3, True), (6, True)) == {"mean": 4.5, "right": 4.5, "longest": 6}


class WordTokenizer:
    """Decodes a token as its number."""

    def batch_decode(self, rows, **settings):
        return [" ".join(map(str, row)) for row in rows]


def sampled(rules: RolloutRules, truncated: bool, length: int):
    def generate(requests, decoding, ended):
        assert len({r.seed for r in requests}) == len(requests)
        return [Completion([7] * length, [-0.1] * length, truncated) for _ in requests]

    reward = Exact()
    judge = Grader([reward], Grading(), Path()).judging
    collector = Collector(generate, judge, WordTokenizer(), lambda phase, done, total: None)
    return collector.collect(PROMPTS[:2], 2, Decoding(100), reward, rules, "rollout", (0,))


class Sleeper(WordTokenizer):
    """Decodes a token as the number of seconds that its grading takes."""

    def batch_decode(self, rows, **settings):
        return [f"sleep {row[0]}" for row in rows]


@pytest.mark.parametrize("changed", [False, True])
def test_responses_are_graded_while_others_are_sampled(tmp_path, changed):
    def generate(requests, decoding, ended):
        made = [Completion([i % 2, 0], [-0.1] * 2, truncated=True) for i in range(len(requests))]
        ended({3: made[3]})
        ended({1: made[1], 2: made[2]})
        time.sleep(2.5)  # others are being sampled
        if changed:
            made[2] = Completion([1, 0], [-0.1] * 2, truncated=True)
        return made

    phases, reward = [], Obedient()
    with Grader([reward], Grading(workers=2), tmp_path) as grader:
        grader.grade(reward, [Response("yes")], [PROMPTS[0].problem])  # workers have started
        collector = Collector(
            generate, grader.judging, Sleeper(), lambda *phase: phases.append(phase)
        )
        how = 2, Decoding(8), reward, RolloutRules(), "rollout", (0,)
        if changed:
            with pytest.raises(AssertionError, match="what the sampler told"):
                collector.collect(PROMPTS[:2], *how)
            return
        groups = collector.collect(PROMPTS[:2], *how)
    assert [[t.text for t in group] for group in groups] == [["sleep 0", "sleep 1"]] * 2
    sampled = [done for name, done, _ in phases if name == "rollout"]
    assert sampled == [0, 1, 3, 4]
    # All but the last one had been judged when sampling ended.
    assert [done for name, done, _ in phases if name == "grade"] in ([], [4])
    assert collector.grade_seconds < 1


def test_overlong_responses_are_punished_or_filtered():
    (group, _) = sampled(RolloutRules(overlong_buffer=0.2), truncated=True, length=90)
    assert [t.reward for t in group] == [-0.5, -0.5] and all(group[0].response_mask)
    (group, _) = sampled(RolloutRules(overlong_filtering=True), truncated=True, length=100)
    assert not any(group[0].response_mask)
    assert len(collate(group, 0, 1.0).tokens) == 0


def test_prompt_stream_passes_over_all_prompts_before_it_repeats_one():
    stream = PromptStream(PROMPTS, seed=3)
    first = [stream[i].problem.answer for i in range(50)]
    second = [stream[i].problem.answer for i in range(50, 100)]
    assert sorted(first) == sorted(second) and first != second
    assert [stream[i].problem.answer for i in range(50)] == first
    assert stream[73].position == 73
