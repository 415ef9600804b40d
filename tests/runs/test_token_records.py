"""What a run shows and keeps of its tokens is what happened to them."""

from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest
import torch

from stapo_pl.cli.shadows import main as shadows_command
from stapo_pl.core.errors import ConfigError
from stapo_pl.insight import records
from stapo_pl.training.events import MiniBatchDone, RolloutCollected, StepDone
from support.fitting import VALIDATED, Listener, fit, flat, make, rig, scalars
from support.places import CONFIGS, ROOT

WORDS = ("trainer.check_val_every_n_epoch=9", "recorder.tokens=all", "objective.tau_p=0.1")


def test_records_equal_the_live_objects_token_by_token(tmp_path):
    mini_batches, rollouts = Listener(MiniBatchDone), Listener(RolloutCollected)
    for packing in ("false", "true"):
        cli = make(tmp_path, *WORDS, f"model.packing={packing}", f"run.name={packing}")
        mini_batches.heard.clear()
        rollouts.heard.clear()
        fit(cli, mini_batches, rollouts)
        check_tokens(cli, mini_batches.heard)
        check_completions(cli, rollouts.heard)


def check_tokens(cli, heard: list[MiniBatchDone]) -> None:
    found = [records.read(file) for file in records.files_of(cli.folder, "tokens")]
    assert len(found) == 2 and len(heard) == 4
    alternatives = 0
    for step, event in enumerate(heard):
        columns, facts = found[step // 2]
        own = columns["step"] == step
        tokens, statistics = event.tokens, event.statistics
        is_token = own & (columns["place"] != records.LEFT_OUT)
        for name, column_T in {
            "token": tokens.token_ids_T,
            "advantage": tokens.advantages_T,
            "weight": tokens.weights_T.float(),
            "kept": tokens.weights_T != 0,
            "old_logprob": tokens.old_logprobs_T,
            "sampler_logprob": tokens.sampler_logprobs_T,
            "logprob": statistics.logprobs_T,
            "entropy": statistics.entropy_T,
            "collision": statistics.collision_T,
            "selection_logprob": event.mini_batch.selected_by.logprobs_T[: len(tokens)],
        }.items():
            assert np.array_equal(columns[name][is_token], column_T.numpy()), name
        trajectories = event.mini_batch.trajectories
        places = [
            (t.prompt.position, t.sample, place)
            for t in trajectories
            for place in range(len(t.completion.token_ids))
        ]
        names = (columns[name][is_token].tolist() for name in ("prompt", "sample", "place"))
        assert list(zip(*names, strict=True)) == places
        left_out = own & ~is_token
        assert columns["token"][left_out].tolist() == [
            len(t.completion.token_ids) for t in event.mini_batch.left_out_trajectories
        ]
        assert left_out.any() and is_token.any()
        for row in np.flatnonzero(is_token):
            is_rare = columns["logprob"][row] < math.log(0.1)
            assert (columns["alternatives"][row] is not None) == is_rare
            if is_rare:
                alternatives += 1
                top = columns["alternative_probs"][row]
                assert top == sorted(top, reverse=True) and sum(top) < 1.0001
        # STAPO's slope is -A rho w where no clip is active.
        ratio = np.exp(columns["logprob"] - columns["old_logprob"])
        expected = -(columns["advantage"] * ratio * columns["weight"])[is_token]
        near = np.isclose(columns["slope"][is_token], expected, rtol=1e-4, atol=1e-10)
        assert near.mean() > 0.95
        silenced = is_token & ~columns["kept"]
        assert (columns["slope"][silenced] == 0).all()
        assert facts.tau_p == 0.1 and (step in facts.tau_h) == (
            "tokens/tau_h" in steps_of(cli, step)
        )
    assert alternatives > 3


def steps_of(cli, step: int) -> set[str]:
    return {name for name, curve in scalars(cli).items() if step in [at for at, _ in curve]}


def check_completions(cli, heard: list[RolloutCollected]) -> None:
    for number, (file, event) in enumerate(
        zip(records.files_of(cli.folder, "completions"), heard, strict=True)
    ):
        rows = records.read_completions(file)
        sampled = [t for group in event.rollout.sampled for t in group]
        assert len(rows) == len(sampled)
        for row, t in zip(rows, sampled, strict=True):
            assert (row["prompt"], row["sample"]) == (t.prompt.position, t.sample)
            assert row["token_ids"] == t.completion.token_ids and row["text"] == t.text
            assert row["prompt_ids"] == t.prompt.token_ids and row["seed"] == t.seed
            assert (row["correct"], row["extracted"]) == (t.correct, t.score.extracted)
            assert row["version"] == 2 * number and row["trained"]


def test_curves_of_classes_and_shadows_are_those_of_records(tmp_path, capsys):
    """`stapo shadows` computes from the records what the run has shown."""
    names = ["grpo", "entropy20", "stapo_v1"]
    words = (*WORDS, "data.prune=false", f"insight.shadows={','.join(names)}")
    cli = fit(make(tmp_path, *words))
    curves = scalars(cli)
    shares = [name for name in curves if name.startswith("tokens/") and name.endswith("/share")]
    assert len(shares) == 9
    for place in range(len(curves[shares[0]])):
        assert sum(curves[name][place][1] for name in shares) == pytest.approx(1, abs=1e-6)
    shadows_command([str(cli.folder), *names])
    assert "4 optimizer steps" in capsys.readouterr().out
    with (cli.folder / "shadows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * len(names)
    for row in rows:
        for key in ("silenced_fraction", "jaccard", "dropped_gradient", "cosine"):
            live = dict(curves[f"shadows/{row['shadow']}/{key}"])[int(row["step"])]
            assert float(row[key]) == pytest.approx(live, abs=1e-6), (row["shadow"], key)
    assert {row["silenced_fraction"] for row in rows if row["shadow"] == "grpo"} == {"0.0"}
    columns, _ = records.read(next(records.files_of(cli.folder, "tokens")))
    assert {f"kept_{name}" for name in names} <= columns.keys()
    assert not columns["kept_entropy20"].all()


def test_a_pruned_run_shows_the_same_shadows(tmp_path):
    """The pass of the tokens that are left out is made for a shadow that looks at all tokens."""
    found = []
    for prune in ("true", "false"):
        words = (*WORDS, f"data.prune={prune}", "insight.shadows=entropy20,dapo")
        curves = scalars(fit(make(tmp_path, *words, f"run.name={prune}")))
        found.append({n: c for n, c in curves.items() if n.startswith(("shadows/", "tokens/low"))})
    pruned, whole = found
    assert pruned.keys() == whole.keys() and len(pruned) > 8
    for name, curve in pruned.items():
        if not name.endswith("jaccard"):  # which counts tokens with a pass only
            assert curve == [(s, pytest.approx(v, rel=1e-3, abs=1e-5)) for s, v in whole[name]], (
                name
            )


def test_records_do_not_change_what_is_learned(tmp_path):
    weights = []
    for number, words in enumerate(
        (("recorder.tokens=all", "insight.shadows=grpo"), ("trainer.without=[TokenInsight]",))
    ):
        steps = Listener(StepDone)
        cli = fit(make(tmp_path, WORDS[0], WORDS[2], *words, f"run.name={number}"), steps)
        weights.append(flat(cli.model.policy))
        assert (cli.folder / "records").exists() == (number == 0)
    assert torch.equal(*weights)


def test_thin_records_are_refused(tmp_path, capsys):
    cli = fit(make(tmp_path, WORDS[0], WORDS[2], "recorder.tokens=rare"))
    with pytest.raises(SystemExit) as exit:
        shadows_command([str(cli.folder), "grpo"])
    assert exit.value.code == 2 and "of none of them all tokens" in capsys.readouterr().err


def test_a_loss_through_the_entropy_is_said_once(tmp_path):
    with pytest.warns(UserWarning, match="no shares of tokens are shown: STAPO") as warned:
        cli = fit(make(tmp_path, *WORDS, "objective.entropy_coef=0.01"))
    assert sum("no shares" in str(w.message) for w in warned) == 1
    assert "tokens/tau_h" not in scalars(cli) and "policy/entropy_p90" in scalars(cli)


def test_every_curve_is_documented_and_every_documented_curve_is_drawn(tmp_path):
    """The table in the package's README against runs that draw all of it."""
    text = (ROOT / "stapo_pl" / "README.md").read_text()
    rows = re.findall(
        r"^\| (`(?:policy|tokens|shadows|reward|rollout|time|[tmv]\w+)/.*?`) \|", text, re.M
    )
    documented = {name for row in rows for name in re.findall(r"`(.*?)`", row)}
    patterns = {
        name: re.compile(re.sub(r"<\w+>", r"[^/]+", name).replace("/", r"\/"))
        for name in documented
    }
    drawn = set[str]()
    other = tmp_path / "other.yaml"
    other.write_text((CONFIGS / "task" / "arithmetic.yaml").read_text())
    runs = (
        ("objective=dapo", "objective.dynamic_sampling.max_rounds=1",
         "objective.dynamic_sampling.on_exhausted=train", "objective.kl_coef=0.01"),
        ("objective.tau_p=0.1", "objective.correction=TokenTIS", "insight.shadows=grpo"),
        ("objective.tau_p=0.1", "objective.statistics=behavior", "reward=weighted",
         f"benchmark=arithmetic,{other}", "benchmark.validation_size=8"),
    )  # fmt: skip
    for number, words in enumerate(runs):
        cli = make(tmp_path, *words, VALIDATED, f"run.name={number}")
        if number == 0:  # the last step has no token to learn from
            rig(cli, lambda n: 0.2 + 0.1 * (n % 4) if n < 32 + 4 else 0.2)
        drawn |= scalars(fit(cli)).keys()
    drawn -= {"epoch"}
    unknown = {n for n in drawn if not any(p.fullmatch(n) for p in patterns.values())}
    assert not unknown
    never = {name for name, p in patterns.items() if not any(p.fullmatch(n) for n in drawn)}
    assert never == {"memory/device_gib"}


def test_silenced_tokens_are_shown_as_text(tmp_path):
    cli = fit(make(tmp_path, *WORDS, "logger=csv"))
    text = (cli.folder / "silenced_tokens.md").read_text()
    columns, _ = records.read(next(records.files_of(cli.folder, "tokens")))
    silenced = np.flatnonzero(~columns["kept"] & (columns["place"] != records.LEFT_OUT))
    assert text.count("⟦") == text.count("instead:") == min(len(silenced), 10) > 0
    first = silenced[0]
    token = cli.model.tokenizer.decode([int(columns["token"][first])])
    assert f"⟦{token}⟧" in text
    assert f"p {math.exp(columns['logprob'][first]):.2g}, H {columns['entropy'][first]:.2g}" in text


def test_curves_of_tokens_keep_to_the_steps_that_are_logged(tmp_path):
    words = (*WORDS, "recorder.tokens=none", "trainer.log_every_n_steps=2")
    curves = scalars(fit(make(tmp_path, *words)))
    for name in ("policy/loss", "policy/entropy_p50"):
        assert [step for step, _ in curves[name]] == [1, 3], name


def test_settings_that_nobody_reads_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="left out or replaced"):
        make(tmp_path, "recorder.tokens=all", "trainer.without=[TokenInsight]")


def test_a_shadow_that_cannot_be_shown_is_left_out(tmp_path):
    words = (*WORDS, "insight.shadows=support.own_objectives.Sharpens,grpo")
    with pytest.warns(UserWarning, match=r"insight\.shadows: sharpens is not shown: Sharpens"):
        curves = scalars(fit(make(tmp_path, *words)))
    shown = {name.split("/")[1] for name in curves if name.startswith("shadows/")}
    assert shown == {"grpo"}


def test_no_token_is_rare_below_0(tmp_path):
    cli = fit(make(tmp_path, WORDS[0], WORDS[1], "objective.tau_p=0"))
    columns, _ = records.read(next(records.files_of(cli.folder, "tokens")))
    assert all(x is None for x in columns["alternatives"])
