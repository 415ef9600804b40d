"""A checkpoint becomes a model folder, whole or not at all."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from stapo_pl.cli.checkpoints import find_checkpoint
from stapo_pl.cli.evaluate import main as evaluate
from stapo_pl.cli.grammar import EVALUATE, expand
from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.export import export
from stapo_pl.policy.loading import load_config
from support.commands import Command
from support.fitting import fit, make
from support.places import CONFIGS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cli = fit(make(tmp_path_factory.mktemp("run"), "objective=stapo", "trainer.max_epochs=1"))
    (checkpoint,) = cli.folder.glob("checkpoints/*.ckpt")
    return checkpoint, dict(cli.model.policy.named_weights())


def test_transformers_loads_what_was_trained(run, tmp_path):
    checkpoint, trained = run
    out = tmp_path / "model"
    result = Command("export", checkpoint, out).wait()
    assert result.returncode == 0, result.stderr
    model = AutoModelForCausalLM.from_pretrained(out)
    exported = dict(model.named_parameters())
    assert exported.keys() == trained.keys()
    assert all(torch.equal(exported[name], weight) for name, weight in trained.items())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert AutoTokenizer.from_pretrained(out).eos_token == "<|end|>"
    assert GenerationConfig.from_pretrained(out).eos_token_id == model.config.eos_token_id
    card = (out / "README.md").read_text()
    for text in (
        "trained with STAPO on Arithmetic for 2 optimizer steps",
        "tau_p: 0.002",
        "seed 0",
    ):
        assert text in card
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_there_is_replaced_only_when_told(run, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(ConfigError, match="exists: give another folder, or --overwrite"):
        export(run[0], out)
    assert (out / "mine").exists()
    export(run[0], out, overwrite=True)
    assert (out / "config.json").exists() and not (out / "mine").exists()


def test_a_checkpoint_is_found_by_its_run_or_as_the_last(run, tmp_path):
    checkpoint, _ = run
    folder = checkpoint.parents[1]
    for given in (checkpoint, folder, folder.parent):
        assert find_checkpoint(str(given)) == checkpoint
    assert find_checkpoint("last", str(folder.parent.parent)) == checkpoint
    later = tmp_path / "other" / "version_3" / "checkpoints" / "rollout-00001.ckpt"
    later.parent.mkdir(parents=True)
    later.touch()
    assert find_checkpoint("last", str(tmp_path)) == later
    assert find_checkpoint(str(tmp_path / "other")) == later
    assert find_checkpoint("owner/name") is None
    with pytest.raises(ConfigError, match="there is no checkpoint in"):
        find_checkpoint("last", str(later.parent))
    with pytest.raises(ConfigError, match="no such checkpoint"):
        find_checkpoint(str(tmp_path / "no.ckpt"))


def test_an_evaluation_takes_a_run_and_says_which_checkpoint(run, capsys, monkeypatch):
    checkpoint, _ = run
    version = checkpoint.parents[1]
    logs = version.parent.parent
    words = (
        "benchmark=arithmetic", "benchmark.validation_size=2", "benchmark.samples=1",
        "data.max_new_tokens=8", "decodings=[[1.0, 1.0]]", "sampler=transformers",
        f"run.logs={logs}",
    )  # fmt: skip
    evaluate(expand(["model.path=last", *words], CONFIGS, EVALUATE), CONFIGS)
    folder = logs / f"evaluate-{version.parent.name}-version_0-{checkpoint.stem}"
    assert (folder / "results.json").is_file()
    model = json.loads((folder / "model.json").read_text())["model"]
    assert model == str(version / "models" / checkpoint.stem)
    # The same model by another name: nothing is made again.
    monkeypatch.delattr("stapo_pl.cli.checkpoints.export")
    evaluate(expand([f"model.path={checkpoint}", *words], CONFIGS, EVALUATE), CONFIGS)
    assert f"{checkpoint}, exported to {model}" in capsys.readouterr().out


def test_training_from_a_checkpoint_says_how(run):
    with pytest.raises(ConfigError, match=r"expected a model folder; .* `stapo export .* OUT`"):
        load_config(str(run[0]))


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such checkpoint"):
        export(tmp_path / "a" / "b.ckpt", tmp_path / "out")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.ckpt").touch()
    with pytest.raises(ConfigError, match="not a checkpoint"):
        export(tmp_path / "a" / "b.ckpt", tmp_path / "out")
