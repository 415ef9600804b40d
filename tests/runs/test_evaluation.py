"""Evaluations: what is sampled is kept, never sampled again, and graded to the same figures."""

from __future__ import annotations

import json
import re
import shutil
from statistics import fmean

import pytest

from stapo_pl.evaluation.records import locked
from stapo_pl.samplers import TransformersSampler
from support.evaluating import completions, evaluate, grade, killed_and_resumed
from support.places import ROOT


def test_figures_table_and_completions(finished, capsys):
    evaluate(finished.parent)
    output = capsys.readouterr().out
    results = json.loads((finished / "results.json").read_text())
    assert [r["decoding"] for r in results] == ["T1-p1", "T0.7-p0.9"]
    for result in results:
        folder = finished / "arithmetic" / result["decoding"]
        scores = [json.loads(line) for line in (folder / "scores.jsonl").open()]
        assert result["accuracy"] == fmean(s["correct"] for s in scores) and len(scores) == 48
        low, high = result["interval"]
        assert 0.2 < low < result["accuracy"] < high <= 1
        assert result["pass_at_k"]["1"] == pytest.approx(result["accuracy"])
        assert result["pass_at_k"]["4"] >= result["majority_at_k"] > 0
        assert result["pass_at_k"]["4"] > result["accuracy"]  # samples are not copies
        assert (result["problems"], result["samples"], result["timeouts"]) == (12, 4, 0)
        assert f"{100 * result['accuracy']:.2f}" in output
        lines = [json.loads(line) for line in (folder / "completions-0.jsonl").open()][1:]
        assert all(r"\boxed{" in line["text"] for line in lines[:3]) and len(lines) == 48
    assert (finished / "results.md").read_text().strip() in output
    assert f"grade={finished}" in output
    texts = [file.split(b"\n", 1)[1] for file in completions(finished).values()]
    assert texts[0] != texts[1]


def test_what_is_there_is_not_sampled_again(finished, monkeypatch):
    def refuse(*args):
        raise AssertionError("an engine was built")

    before = completions(finished)
    monkeypatch.setattr(TransformersSampler, "build", refuse)
    evaluate(finished.parent)
    assert completions(finished) == before
    with pytest.raises(AssertionError, match="an engine was built"):
        evaluate(finished.parent, "benchmark.samples=5")
    evaluate(finished.parent)  # as it was asked for before


def test_more_samples_add_to_those_there_are(tmp_path, finished):
    few = evaluate(tmp_path, "benchmark.samples=1")
    evaluate(tmp_path)
    for name, content in completions(finished).items():
        assert sorted(completions(few)[name].splitlines()) == sorted(content.splitlines())
    results = (finished / "results.json").read_text()
    assert (few / "results.json").read_text() == results


def test_a_killed_evaluation_goes_on_to_the_same_figures(tmp_path, finished):
    folder = killed_and_resumed(tmp_path, "sampler=transformers")
    for name, content in completions(finished).items():
        assert sorted(completions(folder)[name].splitlines()) == sorted(content.splitlines())
    assert (folder / "results.json").read_text() == (finished / "results.json").read_text()


def test_grading_again_gives_the_same_figures(finished, monkeypatch):
    before = (finished / "results.json").read_bytes()
    (finished / "results.json").unlink()
    grade(finished)
    assert (finished / "results.json").read_bytes() == before


def test_grading_with_another_reward_stands_beside(finished, tmp_path, monkeypatch):
    (tmp_path / "short_rewards.py").write_text(
        "def short(response, problem):\n    return response.tokens < 60\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = (finished / "results.json").read_bytes()
    grade(finished, "reward=function", "reward.path=short_rewards.short")
    (file,) = finished.glob("results-function-*.json")
    results = json.loads(file.read_text())
    lines = (finished / "arithmetic" / "T1-p1" / "completions-0.jsonl").read_text().splitlines()
    lengths = [json.loads(line)["tokens"] for line in lines[1:]]
    assert results[0]["accuracy"] == fmean(length < 60 for length in lengths)
    assert results[0]["unparsed_fraction"] == 1
    assert (finished / "results.json").read_bytes() == before


def test_grading_needs_neither_rows_nor_sampler(tmp_path):
    rows = [{"problem": f"Compute {n}+{n}.", "answer": str(2 * n)} for n in range(10, 16)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    folder = evaluate(
        tmp_path, "benchmark=file", f"benchmark.path={file}", "benchmark.validation_size=6",
        "benchmark.prompt=problem", "benchmark.answer=answer", "benchmark.template=null",
    )  # fmt: skip
    before = json.loads((folder / "results.json").read_text())
    assert before[0]["problems"] == 6 and before[0]["benchmark"] == "file"
    file.unlink()
    grade(folder, "sampler=vllm", "reward=math")
    assert json.loads((folder / "results-math.json").read_text()) == before


@pytest.mark.parametrize(
    "words, message",
    [
        (("data.max_new_tokens=95",), r"model.json was made with max_new_tokens=96, not 95"),
        (("seed_everything=1",), r"model.json was made with seed=0, not 1"),
        (("benchmark=gsm8k", "seed_everything=1"), r"model.json was made with seed=0, not 1"),
        (("benchmark.seed=1",), r"made with prompts \(their checksum\)="),
        (("data.max_new_tokens=8192",), "data.max_new_tokens=8192 leaves no room for a prompt"),
        (("data.max_new_tokens=0",), "data.max_new_tokens must be at least 1, got 0"),
        (("data.max_prompt_tokens=0",), "data.max_prompt_tokens must be at least 1, got 0"),
        (("grade=logs",), "grade judges everything that was sampled .* takes no benchmark"),
        (("model.path=nowhere",), "model.path=nowhere: no such folder"),
        (("decodings=[[1, 1], [1.0, 1.0]]",), "each once, got"),
        (("decodings=[[-1, 1]]",), "decodings need temperature >= 0"),
        (("benchmark.samples=0",), "benchmark.samples must be at least 1"),
        (("samples_per_write=0",), "samples_per_write must be at least 1"),
        (("data.grading.time_limit=0",), "grading.time_limit must be positive"),
        (("verifier.path=x", "verifier.prompt=none.txt"), "verifier.prompt=none.txt: no such file"),
        (("data.max_new_token=1",), "did you mean data.max_new_tokens"),
        (("benchmark.smaples=2",), "smaples: no such key; did you mean benchmark.samples"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_cost_nothing(finished, words, message, capsys):
    problems = finished / "arithmetic" / "T1-p1" / "problems.jsonl"
    before = completions(finished), problems.read_bytes()
    with pytest.raises(SystemExit, match="2"):
        evaluate(finished.parent, *words)
    lines = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, lines[-1]) and lines[-1].startswith("error: ")
    assert before == (completions(finished), problems.read_bytes())


def test_grading_what_is_not_complete_is_refused(tmp_path, capsys):
    folder = evaluate(tmp_path, "benchmark.samples=1")
    file = folder / "arithmetic" / "T0.7-p0.9" / "completions-0.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:-2]))
    with pytest.raises(SystemExit):
        grade(folder)
    assert "2 of 12 completions are missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        grade(tmp_path / "nowhere")
    assert "not the folder of an evaluation" in capsys.readouterr().err


def test_what_the_verifier_accepts_is_right(tmp_path, finished):
    policy = ROOT / "stapo_pl" / "assets" / "arithmetic"
    words = (f"verifier.path={policy}", "verifier.max_new_tokens=8")
    words += ("verifier.engine=stapo_pl.samplers.TransformersSampler",)
    folder = evaluate(tmp_path, *words)
    rule = json.loads((folder / "results.json").read_text())
    without = json.loads((folder / "results-verified.json").read_text())
    assert rule == json.loads((finished / "results.json").read_text())
    assert [r["accepted_by_verifier"] for r in without] == [0, 0]
    assert [r["accuracy"] for r in without] == [r["accuracy"] for r in rule]
    # It is no verifier, and says nothing of use; let it accept one response.
    file = folder / "arithmetic" / "T1-p1" / "verifier" / "completions-0.jsonl"
    head, first, *rest = file.read_text().splitlines()
    rejected = round(48 * (1 - rule[0]["accuracy"]))
    assert len(rest) + 1 == rejected
    asked = json.loads(first)
    first = json.dumps(asked | {"text": "A: CORRECT", "truncated": False})
    file.write_text("\n".join([head, first, *rest]) + "\n")
    grade(folder, *words)
    accepted = json.loads((folder / "results-verified.json").read_text())
    assert [r["accepted_by_verifier"] for r in accepted] == [1, 0]
    assert accepted[0]["accuracy"] == pytest.approx(rule[0]["accuracy"] + 1 / 48)
    assert json.loads((folder / "results.json").read_text()) == rule
    # What was said about another answer is not taken for a verdict on this one.
    problems = folder / "arithmetic" / "T1-p1" / "problems.jsonl"
    rows = list(map(json.loads, problems.read_text().splitlines()))
    rows[asked["problem"]]["answer"] += "0"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    grade(folder, *words)
    accepted = json.loads((folder / "results-verified.json").read_text())
    assert accepted[0]["accepted_by_verifier"] == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert len({line["prompt"] for line in lines if line["problem"] == asked["problem"]}) > 1


def test_a_second_evaluation_adds_to_the_first(tmp_path):
    folder = evaluate(tmp_path, "benchmark.samples=1", "decodings=[[1, 1]]")
    file = tmp_path / "rows.v2.jsonl"
    file.write_text('{"problem": "Compute 10+10.", "answer": "20"}\n')
    words = ("benchmark=file", f"benchmark.path={file}", "benchmark.validation_size=1")
    words += ("benchmark.prompt=problem", "benchmark.answer=answer", "decodings=[[0.5, 1]]")
    evaluate(tmp_path, *words)
    both = json.loads((folder / "results.json").read_text())
    assert [(r["benchmark"], r["decoding"], r["samples"]) for r in both] == [
        ("arithmetic", "T1-p1", 1), ("file", "T0.5-p1", 4),
    ]  # fmt: skip
    evaluate(tmp_path, "benchmark.samples=2", "decodings=[[0.5, 1]]")
    three = json.loads((folder / "results.json").read_text())
    assert [(r["benchmark"], r["decoding"], r["samples"]) for r in three] == [
        ("arithmetic", "T1-p1", 1), ("arithmetic", "T0.5-p1", 2), ("file", "T0.5-p1", 4),
    ]  # fmt: skip
    (folder / "results.json").unlink()
    grade(folder)
    assert json.loads((folder / "results.json").read_text()) == three


def test_two_evaluations_do_not_write_into_one_folder(tmp_path, capsys):
    with locked(tmp_path / "small"), pytest.raises(SystemExit):
        evaluate(tmp_path)
    assert "another evaluation writes there" in capsys.readouterr().err


def test_grading_needs_no_model(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(ROOT / "stapo_pl" / "assets" / "arithmetic", model)
    folder = evaluate(tmp_path, f"model.path={model}", "benchmark.samples=1")
    before = (folder / "results.json").read_bytes()
    shutil.rmtree(model)
    grade(folder)
    assert (folder / "results.json").read_bytes() == before
