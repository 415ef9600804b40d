"""Selections of rare tokens in whole runs: what they silence, and what a run shows of it."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml

from stapo_pl.cli.shadows import main as shadows_command
from stapo_pl.insight import records
from stapo_pl.insight.inspector.data import page_data
from stapo_pl.insight.inspector.rare import groups_of
from stapo_pl.insight.inspector.reading import read_records
from stapo_pl.training.events import MiniBatchDone
from support.fitting import Listener, fit, make, scalars

WORDS = ("trainer.check_val_every_n_epoch=9", "recorder.tokens=all", "trainer.max_epochs=1")
TAU_P = 0.2
RARE = {"tau_p": TAU_P, "sign": "both"}


def settings(name: str, **arguments) -> dict:
    return {"class_path": f"stapo_pl.objectives.{name}", "init_args": arguments}


TOP = settings("TopEntropy", fraction=0.5)
SELECTIONS = {
    "s2t": settings("S2T", **RARE),
    "high": settings("HighEntropyRare", **RARE),
    "all": settings("AllRare", **RARE),
    "random": settings("RandomRare", **RARE),
    "several": [settings("RandomRare", **RARE, fraction=0.5), TOP],
}


def run(folder, selection, *words: str, callbacks=()):
    given = f"objective.selection={json.dumps(selection)}"
    return fit(make(folder, "objective=justrl", given, *WORDS, *words), *callbacks)


def shadows() -> dict:
    """JustRL with each of the selections."""
    return {name: settings("JustRL", selection=one) for name, one in SELECTIONS.items()}


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_run_shows_what_a_selection_silences(tmp_path, name):
    done = Listener(MiniBatchDone)
    cli = run(tmp_path, SELECTIONS[name], callbacks=[done])
    assert len(done.heard) == 2
    kept = np.concatenate([event.tokens.weights_T.numpy() != 0 for event in done.heard])
    (file,) = records.files_of(cli.folder, "tokens")
    columns, _ = records.read(file)
    written = columns["kept"][columns["place"] != records.LEFT_OUT]
    assert np.array_equal(written, kept) and not kept.all()
    found = read_records(cli.folder)
    c, kept = found.columns, found.columns["kept"] == 1
    is_rare = found.p_N < TAU_P
    if name != "several":  # of which TopEntropy silences others too
        assert not (~kept & ~is_rare).any()
    for sign in (1, -1):
        own = is_rare & (sign * c["advantage"] > 0)
        silenced, left = int((own & ~kept).sum()), int((own & kept).sum())
        assert silenced > 0 and (left > 0 or name in ("all", "several")), sign
    group_N = groups_of(found)
    assert ((group_N == 0) == (is_rare & ~kept & (c["advantage"] != 0))).all()
    page = page_data(cli.folder, cli.model.tokenizer)
    assert page["rare"]["group"].count(0) == int((group_N == 0).sum())
    shown = {key: value for key, value in scalars(cli).items() if key.startswith("tokens/")}
    assert "tokens/tau_h" in shown and "tokens/silenced/p" in shown
    assert len(page["tau_h"]) == len(shown["tokens/tau_h"])


def test_shadows_draw_from_records_what_they_drew_in_the_run(tmp_path):
    """Every selection as a shadow of every kind; one has the run's own settings."""
    words = ("data.prune=false", f"insight.shadows={json.dumps(shadows())}")
    cli = run(tmp_path, SELECTIONS["random"], *words)
    curves = scalars(cli)
    for name in SELECTIONS:
        jaccard = [value for _, value in curves[f"shadows/{name}/jaccard"]]
        silenced = [value for _, value in curves[f"shadows/{name}/silenced_fraction"]]
        assert all(value > 0 for value in silenced)
        assert all((value == 1) == (name == "random") for value in jaccard), name
    columns, _ = records.read(next(records.files_of(cli.folder, "tokens")))
    assert np.array_equal(columns["kept_random"], columns["kept"])
    counts = {name: int((~columns[f"kept_{name}"]).sum()) for name in SELECTIONS}
    assert counts["random"] == counts["s2t"] == counts["all"] - counts["high"]
    files = []
    for name, shadow in shadows().items():
        files.append(str(tmp_path / f"{name}.yaml"))
        (tmp_path / f"{name}.yaml").write_text(yaml.dump(shadow))
    shadows_command([str(cli.folder), *files])
    with (cli.folder / "shadows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(SELECTIONS)
    for row in rows:
        for key in ("silenced_fraction", "jaccard", "dropped_gradient", "cosine"):
            live = dict(curves[f"shadows/{row['shadow']}/{key}"])[int(row["step"])]
            assert float(row[key]) == pytest.approx(live, abs=1e-6), (row["shadow"], key)


def test_records_without_seeds_have_no_draws(tmp_path, capsys):
    cli = run(tmp_path, SELECTIONS["s2t"], "data.prune=false")
    (file,) = records.files_of(cli.folder, "tokens")
    columns, facts = records.read(file)
    del columns["seed"]  # as an earlier version wrote it
    records.write(file, columns, facts)
    for name in ("all", "random"):
        (tmp_path / f"{name}.yaml").write_text(yaml.dump(shadows()[name]))
    shadows_command([str(cli.folder), str(tmp_path / "all.yaml")])
    with pytest.raises(SystemExit) as exit:
        shadows_command([str(cli.folder), str(tmp_path / "random.yaml")])
    assert exit.value.code == 2 and "earlier versions lack the seeds" in capsys.readouterr().err


def test_a_resumed_run_makes_the_same_choices(tmp_path):
    def kept(folder) -> list[np.ndarray]:
        files = list(records.files_of(folder, "tokens"))
        return [records.read(file)[0]["kept"] for file in files]

    words = ("run.name=run", "run.checkpoint_every=1", "trainer.max_epochs=3")
    whole = kept(run(tmp_path / "whole", SELECTIONS["random"], *words).folder)
    run(tmp_path / "parts", SELECTIONS["random"], *words, "trainer.max_epochs=1")
    again = run(tmp_path / "parts", SELECTIONS["random"], *words, "ckpt_path=last")
    assert len(whole) == 3 and not any(one.all() for one in whole)
    for mine, theirs in zip(kept(again.folder), whole, strict=True):
        assert np.array_equal(mine, theirs)
