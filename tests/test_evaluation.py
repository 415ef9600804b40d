"""Evaluations: what is sampled is kept, never sampled again, and graded to the same figures."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

import pytest
from conftest import CONFIGS

from stapo_pl.cli.evaluate import main
from stapo_pl.cli.grammar import EVALUATE, OverrideError, expand
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Decoding, Problem
from stapo_pl.evaluation.figures import benchmark_figures as figures
from stapo_pl.evaluation.paper import PAPER_BENCHMARKS, reported, size_of
from stapo_pl.evaluation.records import Journal, locked, read_problems, write_problems
from stapo_pl.evaluation.report import table, with_paper
from stapo_pl.evaluation.verifier import Verifier, read_verdict
from stapo_pl.rewards import Response, Score
from stapo_pl.samplers import TransformersSampler

ROOT = CONFIGS.parent
SMALL = (
    "benchmark=arithmetic", "benchmark.validation_size=12", "benchmark.samples=4",
    "data.max_new_tokens=96", "samples_per_write=10", "run.name=small",
)  # fmt: skip


def evaluate(logs: Path, *words: str, sampler: str = "transformers") -> Path:
    """Runs the command; returns its folder."""
    words = (*SMALL, f"run.logs={logs}", f"sampler={sampler}", *words)
    main(expand(words, CONFIGS, EVALUATE), CONFIGS)
    return logs / "small"


def grade(folder: Path, *words: str) -> None:
    main(expand((f"grade={folder}", *words), CONFIGS, EVALUATE), CONFIGS)


def completions(folder: Path) -> dict[str, bytes]:
    """By file."""
    files = sorted(folder.rglob("completions-*.jsonl"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return evaluate(tmp_path_factory.mktemp("finished"))


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


def command(logs: Path, *words: str) -> list[str]:
    words = (*SMALL, f"run.logs={logs}", *words)
    return [sys.executable, str(ROOT / "scripts" / "evaluate.py"), *words]


def killed_and_resumed(logs: Path, *words: str) -> Path:
    """An evaluation that SIGKILL ends when it has written something, and that then goes on."""
    run = subprocess.Popen(command(logs, *words), start_new_session=True)
    file = logs / "small" / "arithmetic" / "T1-p1" / "completions-0.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 2:
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    with open(file, "ab") as torn:
        torn.write(b'{"problem": 11, "sam')
    whole = file.read_bytes().rpartition(b"\n")[0]
    assert whole.count(b"\n") < 48
    subprocess.run(command(logs, *words), check=True)
    assert file.read_bytes().startswith(whole)
    return logs / "small"


def test_a_killed_evaluation_goes_on_to_the_same_figures(tmp_path, finished):
    folder = killed_and_resumed(tmp_path, "sampler=transformers")
    for name, content in completions(finished).items():
        assert sorted(completions(folder)[name].splitlines()) == sorted(content.splitlines())
    assert (folder / "results.json").read_text() == (finished / "results.json").read_text()


@pytest.mark.vllm
def test_a_killed_evaluation_goes_on_with_vllm(tmp_path):
    whole = tmp_path / "whole"
    subprocess.run(command(whole, "sampler=vllm"), check=True)
    folder = killed_and_resumed(tmp_path / "killed", "sampler=vllm")
    results = json.loads((folder / "results.json").read_text())
    assert results == json.loads((whole / "small" / "results.json").read_text())
    assert results[0]["accuracy"] > 0.3
    grade(folder)
    assert json.loads((folder / "results.json").read_text()) == results


@pytest.mark.slow
def test_two_ranks_sample_what_one_does(tmp_path, finished):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    words = ["sampler=transformers", "verifier.path=" + str(ROOT / "stapo_pl/assets/arithmetic")]
    words.append("verifier.max_new_tokens=8")
    subprocess.run([*torchrun, *command(tmp_path, *words)[1:]], check=True)
    both = completions(tmp_path / "small")
    for name, content in completions(finished).items():
        assert "completions-0" in name
        lines = both[name].splitlines() + both[name.replace("s-0", "s-1")].splitlines()[1:]
        assert sorted(lines) == sorted(content.splitlines())
    results = [
        json.loads((folder / "results.json").read_text())
        for folder in (finished, tmp_path / "small")
    ]
    assert results[0] == results[1]
    verified = json.loads((tmp_path / "small" / "results-verified.json").read_text())
    assert [row["accepted_by_verifier"] for row in verified] == [0, 0]


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


def test_benchmark_words(tmp_path):
    words = ["benchmark=all", "benchmark.path=F", "benchmark.samples=2"]
    (word,) = expand(words, CONFIGS, EVALUATE)
    chosen = json.loads(word.partition("=")[2])
    assert tuple(chosen) == PAPER_BENCHMARKS
    assert {b["samples"] for b in chosen.values()} == {2}
    assert {b["task"]["init_args"]["path"] for b in chosen.values()} == {"F"}
    (word,) = expand(["benchmark=aime24, minerva"], CONFIGS, EVALUATE)
    chosen = json.loads(word.partition("=")[2])
    assert [b["samples"] for b in chosen.values()] == [32, 4]
    (word,) = expand(["benchmark=aime24", "benchmark.reward=dapo"], CONFIGS, EVALUATE)
    assert "DAPORule" in word
    (word,) = expand(["benchmark=aime24", "benchmark.reward=my.Own"], CONFIGS, EVALUATE)
    assert '"reward": {"class_path": "my.Own"}' in word
    for words, message in (
        (["benchmark.path=F"], "say which ones"),
        (["benchmark="], "say which ones"),
        (["benchmark=aime24", "benchmark.path=["], "no YAML value"),
        (["benchmark=aime24,amc23,aime24"], "aime24 is named twice"),
        (["benchmark=aime24", "benchmark.reward.path=x"], "only a task's own keys"),
    ):
        with pytest.raises(OverrideError, match=message):
            expand(words, CONFIGS, EVALUATE)
    with pytest.raises(OverrideError, match=r"did you mean aime25\?"):
        expand(["benchmark=aime26"], CONFIGS, EVALUATE)


def test_a_journal_drops_a_torn_line_and_refuses_other_settings(tmp_path):
    file = tmp_path / "folder" / "lines.jsonl"
    Journal(file, {"seed": 0}).append({(0, 0): {"text": "a\nb\ud800\x00"}})
    with open(file, "ab") as end:
        end.write(b'{"problem": 0, "sample": 1, "te')
    journal = Journal(file, {"seed": 0})
    assert list(journal.read()) == [(0, 0)]
    journal.append({(0, 2): {"text": ""}})
    journal.append({(0, 3, 77): {"text": ""}})
    again = Journal(file, {"seed": 0}).read()
    assert list(again) == [(0, 0), (0, 2), (0, 3, 77)] and again[0, 0]["text"] == "a\nb\ud800\x00"
    with pytest.raises(ConfigError, match=r"made with seed=0, not 1: set run\.name"):
        Journal(file, {"seed": 1}).read()


def groups(*rows: str) -> tuple[list[list[Response]], list[list[Score]]]:
    """A row a problem, a letter a sample: right, wrong, no answer, timeout."""
    kinds = {
        "r": Score(1, True, "4"),
        "w": Score(0, False, "5"),
        "n": Score(0, False, None),
        "t": Score(0, False, None, outcome="timeout"),
    }
    scores = [[kinds[letter] for letter in row] for row in rows]
    return [[Response("", 10, truncated=s.extracted is None) for s in g] for g in scores], scores


def test_figures_of_a_small_case():
    found = figures(*groups("rrww", "rwwn", "nntt"))
    assert found["accuracy"] == pytest.approx((0.5 + 0.25 + 0) / 3)
    assert found["pass_at_k"] == pytest.approx(
        {"1": 0.25, "2": (5 / 6 + 1 / 2) / 3, "4": 2 / 3}
    )  # fmt: skip
    assert found["majority_at_k"] == pytest.approx(0.5 / 3)
    assert found["truncated_fraction"] == found["unparsed_fraction"] == pytest.approx(5 / 12)
    assert (found["timeouts"], found["errors"], found["tokens_mean"]) == (2, 0, 10)
    assert (found["problems"], found["samples"]) == (3, 4)


def test_the_paper_stands_beside_figures_of_its_size():
    result = figures(*groups("rw"))
    rows = [
        with_paper(result, "8B", name, Decoding(96, 0.7, 0.9)) for name in ("aime24", "math_500")
    ]  # fmt: skip
    head, _, first, _, average = table(rows, "8B").splitlines()
    assert "paper: 8B STAPO" in head and first.rstrip(" |").endswith("39.48")
    assert average.startswith("| average") and average.rstrip(" |").endswith("65.44")
    assert "paper" not in table([with_paper(result, None, "aime24", Decoding(96, 1.0, 1.0))], None)
    assert "paper" not in table([with_paper(result, "8B", "gsm8k", Decoding(96, 1.0, 1.0))], "8B")


@pytest.mark.parametrize(
    "size, decoding, averages",
    [
        ("1.7B", (1.0, 1.0), (30.52, 33.64, 29.16, 38.18)),
        ("1.7B", (0.7, 0.9), (31.06, 33.08, 34.90, 36.72)),
        ("8B", (1.0, 1.0), (56.24, 57.63, 50.70, 58.76)),
        ("8B", (0.7, 0.9), (55.25, 57.83, 56.12, 59.92)),
        ("14B", (1.0, 1.0), (60.74, 60.77, 55.74, 64.905)),  # it prints 64.38 for STAPO
        ("14B", (0.7, 0.9), (60.81, 64.92, 67.11, 68.66)),
    ],
)
def test_the_papers_figures_have_the_averages_that_it_prints(size, decoding, averages):
    rows = [reported(size, *decoding, name) for name in PAPER_BENCHMARKS]
    for method, average in zip(("GRPO", "20-Entropy", "JustRL", "STAPO"), averages, strict=True):
        assert 100 * fmean(row[method] for row in rows) == pytest.approx(average, abs=0.011)


def test_sizes():
    assert [size_of(n) for n in (1_720_574_976, 8_190_735_360, 14_768_307_200)] == [
        "1.7B", "8B", "14B",
    ]  # fmt: skip
    assert size_of(4_022_468_096) is None


@pytest.mark.parametrize(
    "reply, verdict",
    [
        ("A", "A"),
        ("**B**", "B"),
        ("A: CORRECT", "A"),
        ("B: INCORRECT", "B"),
        ("INVALID", "C"),
        ("A full comparison shows: C: INVALID", "C"),
        ("Is it CORRECT? Judgement: B", "C"),  # it says both
        ("B: INCORRECT. A sign is missing.", "B"),
        ("INCORRECT. A different value was given.", "B"),
        ("B\n\nExplanation: A response of 5 is not 6.", "B"),
        (r"First, it is complete. \boxed{A} - CORRECT", "A"),
        (r"\boxed{C} - INCOMPLETE", "C"),
        ("Judgement: A\n", "A"),
        (r"It looks CORRECT. \boxed{B} is what I say, not A.", "B"),
        ("The reference is A. My judgement: B", "C"),
        ("CORRECTLY", "C"),
        ("", "C"),
    ],
)
def test_verdicts(reply, verdict):
    assert read_verdict(Response(reply)) == verdict
    assert read_verdict(Response(reply, truncated=True)) == "C"


def test_a_verifier_is_asked_with_the_whole_case(tmp_path):
    problem = Problem([{"role": "user", "content": "What is {gold_answer}?"}], "4")
    content = Verifier("x").ask(problem, Response("I say {question} \\boxed{4}"))
    (message,) = content.messages
    for part in ("What is {gold_answer}?", "4", "I say {question} \\boxed{4}"):
        assert part in message["content"]
    file = tmp_path / "prompt.txt"
    file.write_text("{question}|{gold_answer}|{llm_response}")
    own = Verifier("x", prompt=str(file), max_response_characters=5)
    (message,) = own.ask(problem, Response("long \\boxed{4}")).messages
    assert message["content"] == "What is {gold_answer}?|4|ed{4}"
    assert own.cuts(Response("123456")) and not own.cuts(Response("12345"))
    file.write_text("{question}|{gold_answer}")
    with pytest.raises(ConfigError, match=r"it has no \{llm_response\}"):
        Verifier("x", prompt=str(file))


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


def test_problems_are_kept_exactly(tmp_path):
    extra = {"grid": ((1, 2), (3,)), 4: {5, 6}, "text": "\u00e9", "none": None}
    plain = {"index": 4, "share": float("nan"), "text": "\u00e9", "list": [1.5, float("inf")]}
    message = {"role": "user", "content": "?"}
    problems = [Problem([message], "4", extra=each) for each in (extra, plain, {})]
    write_problems(tmp_path / "problems.jsonl", problems)
    again = read_problems(tmp_path / "problems.jsonl")
    assert repr(again) == repr(problems) and again[0] == problems[0]
    problems[0].extra["object"] = object()
    with pytest.raises(ConfigError, match="its extra cannot be kept"):
        write_problems(tmp_path / "problems.jsonl", problems)
