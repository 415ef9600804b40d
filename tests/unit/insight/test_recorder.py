"""Records hold what they say, within a budget, and are thinned openly."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Rollout
from stapo_pl.insight import records
from stapo_pl.insight.recorder import Recorder, RecordFiles
from stapo_pl.insight.rows import near_rare
from support.carriers import trajectory

TAU_P = 0.002


def columns(sequences: int = 30, length: int = 50, step: int = 0, rare=((3, 20),)) -> dict:
    """Rows of sequences of equal length, a few of whose tokens are rare; then one left out."""
    draw, count = np.random.default_rng(step), sequences * length
    floats = {
        name: draw.standard_normal(count + 1).astype(np.float32)
        for name in (
            "entropy", "collision", "slope", "old_logprob", "sampler_logprob", "selection_logprob",
        )
    }  # fmt: skip
    made = {
        "step": np.full(count + 1, step),
        "prompt": np.append(np.arange(count) // (2 * length), 99),
        "sample": np.append(np.arange(count) // length % 2, 0),
        "place": np.append(np.arange(count) % length, records.LEFT_OUT),
        "token": draw.integers(0, 150_000, count + 1),
        "advantage": np.append(np.ones(count, np.float32), 0),
        "weight": np.full(count + 1, 1 / count, np.float32),
        "kept": np.ones(count + 1, bool),
        "logprob": np.full(count + 1, -1.0, np.float32),
        "curve_weight": np.ones(count + 1, np.float32),
        "reason": [None] * count + [records.NO_ADVANTAGE],
        "alternatives": [None] * (count + 1),
        "alternative_probs": [None] * (count + 1),
    } | floats  # fmt: skip
    for sequence, place in rare:
        row = sequence * length + place
        made["logprob"][row] = -9
        made["alternatives"][row] = [5, 4, 3, 2, 1]
        made["alternative_probs"][row] = [0.5, 0.25, 0.125, 0.0625, 0.03125]
    return made


def files(folder, rank: int = 0, ranks: int = 1, **settings) -> RecordFiles:
    return RecordFiles(Recorder(**settings), folder / records.FOLDER, rank, ranks, 0)


def rollout() -> Rollout:
    group = [trajectory([1], [2] * 4, 1.0) for _ in range(2)]
    return Rollout(1, groups=[group], sampled=[group])


def write(made: RecordFiles, number: int, tokens: int = 1500, **more) -> None:
    made.add(columns(step=2 * number, **more))
    made.write(made.take(), number, rollout(), 2 * number, tokens, records.Facts(tau_p=TAU_P))


def test_what_is_written_is_read(tmp_path):
    made, expected = files(tmp_path, tokens="all"), columns()
    expected["kept_grpo"] = expected["kept"]  # of a shadow
    made.add(expected)
    made.write(
        made.take(), 7, rollout(), 14, 1500, records.Facts("STAPO", tau_p=TAU_P, tau_h={14: 0.5})
    )
    (file,) = records.files_of(tmp_path, "tokens")
    found, facts = records.read(file)
    for name, column in expected.items():
        assert np.array_equal(np.array(found[name], object), np.array(column, object)), name
    assert (facts.objective, facts.tokens, facts.tau_h, facts.total) == (
        "STAPO", "all", {14: 0.5}, 1500
    )  # fmt: skip
    assert records.rollout_of(file) == 7 and not [*tmp_path.rglob("*.tmp")]
    (file,) = records.files_of(tmp_path, "completions")
    first, *_ = records.read_completions(file)
    assert first["token_ids"] == [2, 2, 2, 2] and first["rollout"] == 7 and first["version"] == 14
    assert first.keys() == records.COMPLETION_COLUMNS.keys()


def test_rare_tokens_are_kept_with_their_neighbours():
    made = columns(rare=((0, 3), (4, 49), (5, 0), (9, 25)))
    kept = [
        (row // 50, row % 50) for row in np.flatnonzero(near_rare(made, TAU_P, 16)) if row < 1500
    ]
    expected = [(0, n) for n in range(20)] + [(4, n) for n in range(33, 50)]
    expected += [(5, n) for n in range(17)] + [(9, n) for n in range(9, 42)]
    assert kept == expected


def test_sampled_keeps_whole_sequences_and_all_rare_tokens(tmp_path):
    made = files(tmp_path, tokens="sampled", max_tokens=300)
    write(made, 0, rare=((3, 20), (17, 2)))
    found, facts = records.read(next(records.files_of(tmp_path, "tokens")))
    assert facts.tokens == "sampled" and facts.total == 1500
    assert (found["logprob"] < -6).sum() == 2
    assert sum(reason is not None for reason in found["reason"]) == 1
    names = list(zip(found["prompt"].tolist(), found["sample"].tolist(), strict=True))
    whole = [name for name in {*names} if names.count(name) == 50]
    assert 2 <= len(whole) <= 12
    # The choice is that of the sequence and not of the rank that it is on.
    half, other = columns(rare=((3, 20), (17, 2))), files(tmp_path / "other", tokens="sampled")
    other.recorder.max_tokens = 300
    other.add({name: column[:750] for name, column in half.items()})
    other.write(other.take(), 0, rollout(), 0, 1500, records.Facts(tau_p=TAU_P))
    found, _ = records.read(next(records.files_of(tmp_path / "other", "tokens")))
    again = list(zip(found["prompt"].tolist(), found["sample"].tolist(), strict=True))
    assert {name for name in again if again.count(name) == 50} == {
        (prompt, sample) for prompt, sample in whole if 2 * prompt + sample < 15
    }


@pytest.mark.parametrize("total, choice", [(1500, "all"), (400_000, "sampled")])
def test_large_rollouts_are_sampled(tmp_path, total, choice):
    write(files(tmp_path), 0, total)
    assert records.facts_of(next(records.files_of(tmp_path, "tokens"))).tokens == choice


def test_every_nth_rollout_and_none():
    assert [files_wants(number, every_n_rollouts=3) for number in range(4)] == [1, 0, 0, 1]
    assert not files_wants(0, tokens="none")


def files_wants(number: int, **settings) -> bool:
    return RecordFiles(Recorder(**settings), None, 0, 1, 0).wants(number)


def test_the_oldest_rollouts_are_thinned_and_then_removed(tmp_path):
    made = files(tmp_path, tokens="all")
    write(made, 0)
    size = next(records.files_of(tmp_path, "tokens")).stat().st_size
    made.recorder.max_gib = 2 * 3.2 * size / 2**30
    for number in range(1, 6):
        write(made, number)
    modes = [records.facts_of(file).tokens for file in records.files_of(tmp_path, "tokens")]
    assert modes == sorted(modes, reverse=True) and 2 <= modes.count("all") <= 3
    assert (made.thinned, made.removed) == (modes.count("rare"), 0)
    total = sum(file.stat().st_size for file in records.files_of(tmp_path, "tokens"))
    assert 2 * size < total <= 3.2 * size
    found, facts = records.read(next(records.files_of(tmp_path, "tokens")))
    assert len(found["step"]) == 33 + 1 and facts.total == 1500
    assert sum(x is not None for x in found["alternatives"]) == 1
    # A run that goes on thins alike.
    resumed = files(tmp_path, tokens="all", max_gib=made.recorder.max_gib)
    resumed.resume(5)
    assert [records.rollout_of(f) for f in records.files_of(tmp_path, "tokens")] == [0, 1, 2, 3, 4]
    write(resumed, 5)
    again = [records.facts_of(file).tokens for file in records.files_of(tmp_path, "tokens")]
    assert again == modes
    # With hardly any room, the newest rollout stays whole.
    resumed.recorder.max_gib = 1e-9
    write(resumed, 6)
    for kind in ("tokens", "completions"):
        assert [records.rollout_of(f) for f in records.files_of(tmp_path, kind)] == [6]
    (file,) = records.files_of(tmp_path, "tokens")
    assert records.facts_of(file).tokens == "all" and resumed.removed > 6


def test_a_resumed_run_removes_what_it_makes_again(tmp_path):
    for rank in range(3):
        for number in range(4):
            write(files(tmp_path, rank, 3), number)
    for rank in range(2):  # one rank less than before
        resumed = files(tmp_path, rank, 2)
        resumed.resume(2)
        assert len(resumed._sizes) == (8 if rank == 0 else 4)  # the first has those of the third
    left = {file.name for file in (tmp_path / records.FOLDER).iterdir()}
    assert left == {
        f"{kind}-{number:06d}-{rank:04d}.parquet"
        for kind in ("tokens", "completions")
        for number in (0, 1)
        for rank in range(3)
    }


def test_a_file_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_FORMAT", 9)
    write(files(tmp_path), 0)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="format 9"):
        records.read(next(records.files_of(tmp_path, "tokens")))


def test_a_token_takes_less_than_48_bytes(tmp_path):
    draw = random.Random(0)
    rare = [(draw.randrange(200), draw.randrange(1000)) for _ in range(200)]
    made = files(tmp_path, tokens="all")
    made.add(columns(200, 1000, rare=rare))
    made.write(made.take(), 0, rollout(), 0, 200_000, records.Facts(tau_p=TAU_P))
    (file,) = records.files_of(tmp_path, "tokens")
    assert file.stat().st_size < 48 * 200_000


def test_settings_out_of_range_are_refused():
    for settings in ({"max_tokens": 0}, {"every_n_rollouts": 0}, {"max_gib": 0}, {"tokens": "al"}):
        with pytest.raises(ConfigError, match=f"recorder.{next(iter(settings))}"):
            Recorder(**settings)
    assert json.dumps(vars(Recorder()))


def test_tokens_that_are_rare_for_the_selection_alone_are_kept():
    made = columns(rare=())
    made["selection_logprob"][:] = -1
    made["selection_logprob"][70] = -9
    assert near_rare(made, TAU_P, 0)[:1500].nonzero()[0].tolist() == [70]


def test_halves_of_characters_can_be_written(tmp_path):
    group = [trajectory([1], [2] * 4, 1.0)]
    group[0].text = "so \ud800"
    group[0].prompt.problem.answer = "\udfff"
    made = files(tmp_path)
    made.write(made.take(), 0, Rollout(1, sampled=[group]), 0, 0, records.Facts())
    (row,) = records.read_completions(next(records.files_of(tmp_path, "completions")))
    assert (row["text"], row["answer"]) == ("so ?", "?")
