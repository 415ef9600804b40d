"""Where problems are read from: files of three formats, folders, the hub."""

from __future__ import annotations

import os
import subprocess
import sys

import datasets
import pytest
import yaml

from stapo_pl.core.errors import ConfigError
from stapo_pl.rewards import Response
from stapo_pl.tasks import Dataset
from support.places import CONFIGS
from support.rows import BOX, ROWS, asked, whole, write


def test_all_formats_give_the_same_problems(tmp_path):
    sets = {
        suffix: whole(write(tmp_path / f"rows{suffix}", ROWS), template=BOX)
        for suffix in (".parquet", ".jsonl", ".json")
    }
    for suffix, found in sets.items():
        assert [p.place for p in found.problems][::8] == [
            f"{tmp_path}/rows{suffix}, row 1", f"{tmp_path}/rows{suffix}, row 9"
        ]  # fmt: skip
        for problem in found.problems:
            problem.place = ""
    assert sets[".parquet"] == sets[".jsonl"] == sets[".json"]
    first = sets[".json"].problems[0]
    assert first.messages == [{"role": "user", "content": "0+0?\nPut it within \\boxed{}."}]
    assert (first.answer, first.data_source, first.extra) == ("0", "rows", {})


def test_a_folder_stands_for_the_file_of_that_name(tmp_path):
    for name in ("MATH-500.parquet", "Olympiad-Bench.jsonl", "olympiad.bench.json"):
        write(tmp_path / name, [{"problem": name, "answer": "1"}])
    assert asked(whole(str(tmp_path), name="math_500")) == ["MATH-500.parquet"]
    with pytest.raises(
        ConfigError, match=r"no file called task.name=aime24.*; there is MATH-500.p"
    ):
        whole(str(tmp_path), name="aime24")
    with pytest.raises(ConfigError, match=r"has 2 files called task\.name=olympiad_bench"):
        whole(str(tmp_path), name="olympiad_bench")
    with pytest.raises(ConfigError, match=r"task\.name=null"):
        whole(str(tmp_path))


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("rows.csv", "a,b", "expected a .parquet, .jsonl or .json file"),
        ("rows.parquet", "no parquet", "no parquet file"),
        ("rows.json", '{"problem": "1+1?"}', "expected a list of objects"),
        ("rows.json", "[", r"rows.json: no JSON"),
    ],
)
def test_files_are_what_they_are_called(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        whole(str(tmp_path / name))


def test_reading_prints_nothing(tmp_path, capfd):
    path = write(tmp_path / "rows.parquet", ROWS)
    datasets.enable_progress_bars()
    capfd.readouterr()
    whole(path)
    assert capfd.readouterr().err == ""


def test_a_name_of_the_hub_is_loaded_with_subset_and_split(monkeypatch):
    calls = []

    def load_dataset(*args, **kwargs):
        assert datasets.are_progress_bars_disabled()
        calls.append((args, kwargs))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    datasets.enable_progress_bars()
    task = Dataset("openai/gsm8k", subset="main", split="train", validation_split="test")
    assert calls == [] and task.name == "gsm8k"
    assert len(task.train_problems().problems) == 9
    found = task.validation_problems()
    assert found.problems[0].place == "openai/gsm8k, row 1"
    assert calls == [
        (("openai/gsm8k", "main"), {"split": "train"}),
        (("openai/gsm8k", "main"), {"split": "test"}),
    ]
    calls.clear()
    Dataset("a/b", subset="x", validation_path="c/d.e").validation_problems()
    assert calls == [(("c/d.e", None), {"split": "train"})]


def test_a_folder_copied_from_the_hub_has_its_subsets_and_splits(tmp_path):
    card = "---\nconfigs:\n"
    for subset in ("main", "socratic"):
        (tmp_path / subset).mkdir()
        card += f"- config_name: {subset}\n  data_files:\n"
        for split in ("train", "test"):
            row = {"problem": f"{subset} {split}?", "answer": "1"}
            write(tmp_path / subset / f"{split}-00000-of-00001.parquet", [row])
            card += f"  - split: {split}\n    path: {subset}/{split}-*\n"
    (tmp_path / "README.md").write_text(f"{card}---\n")
    settings = {"path": f"{tmp_path}/", "subset": "main", "validation_split": "test"}
    with pytest.raises(ConfigError, match=r"the folder has no file called task\.name=null"):
        Dataset(**settings)
    (tmp_path / ".gitattributes").touch()
    task = Dataset(**settings)
    assert task.name == tmp_path.name
    assert asked(task.train_problems()) == ["main train?"]
    assert asked(task.validation_problems()) == ["main test?"]
    with pytest.raises(ConfigError, match=r"task\.subset=none .*main.*socratic"):
        Dataset(str(tmp_path), subset="none").train_problems()


def test_a_hub_that_cannot_be_reached_is_one_line():
    code = (
        "from stapo_pl.tasks import Dataset\nfrom stapo_pl.core.errors import ConfigError\n"
        "try: Dataset('no-such/name').train_problems()\nexcept ConfigError as error: print(error)"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    (line,) = run.stdout.splitlines()
    assert line.startswith("no-such/name: this dataset cannot be loaded with task.subset")
    assert line.endswith("or give the path of a local .parquet, .jsonl or .json file")


@pytest.mark.parametrize(
    "name, count",
    [
        ("aime24", 30), ("aime25", 30), ("amc23", 40), ("math_500", 500), ("minerva", 272),
        ("olympiad_bench", 674),
    ],
)  # fmt: skip
def test_benchmark_rows(benchmark_folder, name, count):
    settings = yaml.safe_load((CONFIGS / "task" / f"{name}.yaml").read_text())["task"]["init_args"]
    task = Dataset(**settings | {"path": str(benchmark_folder), "reward": None})
    found = task.validation_problems()
    assert len(found.problems) == count and not found.bad_rows and not found.filtered
    assert len({problem.key for problem in found.problems}) == count
    for problem in found.problems[:20]:
        assert problem.messages[-1]["content"].endswith(r"put your final answer within \boxed{}.")
        assert task.reward.score(Response(rf"\boxed{{{problem.answer}}}"), problem).correct
