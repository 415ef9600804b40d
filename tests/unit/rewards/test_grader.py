"""Responses are judged in processes that may be lost to them; none of that reaches the run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from stapo_pl.core.errors import ConfigError, TrainingError
from stapo_pl.core.types import Problem
from stapo_pl.rewards import Math, Response, Term, Weighted
from stapo_pl.rewards.grading.grader import Grader, Grading, RewardError
from support.grading import LIMIT, children, commands, grade, graded
from support.own_rewards import InPlace, Obedient, Unprepared


def test_scores_are_in_order_and_progress_is_told(tmp_path):
    texts = [f"sleep {0.02 * (i % 3)}" if i % 2 else "yes" for i in range(40)]
    told = []
    reward = Obedient()
    with Grader([reward], Grading(workers=2), tmp_path) as grader:
        problems = [Problem([], "yes")] * len(texts)
        scores = grader.grade(
            reward, list(map(Response, texts)), problems, lambda done, total: told.append(done)
        )
    assert [score.extracted for score in scores] == texts
    assert [score.correct for score in scores] == [text == "yes" for text in texts]
    assert told == sorted(told) and told[-1] == 40


@pytest.mark.parametrize("hang", ["spin", "big number", "sleep 1000"])
def test_what_hangs_costs_its_time_limit_and_nothing_else(tmp_path, hang):
    start = time.monotonic()
    scores = graded(["yes", hang, "yes", "no", hang, "yes"], tmp_path)
    assert [score.outcome for score in scores] == [
        "judged", "timeout", "judged", "judged", "timeout", "judged",
    ]  # fmt: skip
    assert [score.reward for score in scores] == [1, -1, 1, 0, -1, 1]
    assert scores[1].reason == f"took over {LIMIT} s" and not scores[1].correct
    assert time.monotonic() - start < 2 * LIMIT + 5


def test_memory_is_bounded(tmp_path):
    scores = graded(["keep 0.5", "yes"], tmp_path, workers=1, time_limit=10, memory_gib=0.25)
    assert [score.outcome for score in scores] == ["error", "judged"]
    assert scores[0].reason == "out of memory" and scores[0].reward == -1


def test_what_was_not_judged_has_the_worst_of_each_part(tmp_path):
    reward = Weighted({"a": Term(1.0, Obedient()), "b": Term(-0.5, Obedient())})
    (score,) = graded(["spin"], tmp_path, reward=reward)
    assert score.outcome == "timeout" and score.components == {"a": -1.0, "b": 1.0}
    assert score.reward == reward.worst == -1.5


def test_what_kills_its_workers_is_an_error(tmp_path):
    scores = graded(["yes", "die", "yes"], tmp_path)
    assert [score.outcome for score in scores] == ["judged", "error", "judged"]
    assert scores[1].reason == "killed the process that judged it"


def test_a_response_whose_worker_died_once_is_judged_again(tmp_path):
    (score,) = graded([f"die once {tmp_path / 'died'}"], tmp_path)
    assert score.outcome == "judged" and (tmp_path / "died").exists()


def test_killing_workers_in_the_middle_loses_no_sample(tmp_path):
    texts = [f"sleep {0.1 + i / 1e6}" for i in range(60)]
    before = children()

    def kill() -> None:
        for _ in range(3):
            time.sleep(0.3)
            os.kill(min(children() - before), signal.SIGKILL)

    killer = threading.Timer(1.0, kill)
    killer.start()
    scores = graded(texts, tmp_path, time_limit=10)
    killer.join()
    assert [score.extracted for score in scores] == texts
    assert {score.outcome for score in scores} == {"judged"}
    assert children() == before


def test_an_exception_of_a_reward_stops_and_saves_the_response(tmp_path):
    reward = Obedient()
    with Grader([reward], Grading(workers=2), tmp_path) as grader:
        with pytest.raises(RewardError, match="Obedient failed") as error:
            grade(grader, reward, ["yes", "raise", "sleep 0.5"])
        saved = json.loads((tmp_path / "failed_response.json").read_text())
        assert saved["response"]["text"] == "raise" and saved["problem"]["place"] == "made, row 1"
        first_line, *traceback = str(error.value).splitlines()
        assert first_line.endswith("LookupError: no such thing")
        assert any("own_rewards.py" in line for line in traceback)
        assert "LookupError: no such thing" in saved["error"]
        with pytest.raises(RewardError, match="it gave a reward of nan"):
            grade(grader, reward, ["nan"])
        # What others were still busy with is not taken for the next answers.
        assert [s.extracted for s in grade(grader, reward, ["yes", "no"])] == ["yes", "no"]


def test_a_reward_that_exits_stops(tmp_path):
    with pytest.raises(RewardError, match=r"(?s)Obedient failed.*SystemExit: enough"):
        graded(["exit"], tmp_path)


@pytest.mark.parametrize(
    "what, cause",
    [
        ("extracted", "it extracted 4, expected text or None"),
        ("none", "which is no score"),
        ("word", "which is no score"),
        ("undecided", "which is no score"),
        ("yes", "which is no score"),
        ("text", "which is no score"),
        ("unpicklable", "pickle"),
        # Finite, but its square is not, in float32.
        ("huge", r"a reward of 1e\+20, expected .* at most 1e\+15"),
    ],
)
def test_what_is_no_score_stops(tmp_path, what, cause):
    with pytest.raises(RewardError, match=f"^the reward Obedient failed.*{cause}"):
        graded([f"score {what}"], tmp_path)
    assert (tmp_path / "failed_response.json").exists()


def test_scores_are_plain_numbers(tmp_path):
    (score,) = graded(["score numpy"], tmp_path)
    assert (type(score.reward), score.correct) == (float, True) and type(score.correct) is bool


def test_a_problem_that_cannot_be_sent_stops(tmp_path):
    reward = Obedient()
    problem = Problem([], "yes", extra={"lock": threading.Lock()})
    with (
        Grader([reward], Grading(workers=1), tmp_path) as grader,
        pytest.raises(RewardError, match="cannot be sent to a worker"),
    ):
        grader.grade(reward, [Response("yes")], [problem])


def test_memory_that_is_kept_is_not_charged_to_others(tmp_path):
    texts = ["keep 0.15"] * 4 + ["yes"]
    scores = graded(texts, tmp_path, workers=1, time_limit=10, memory_gib=0.25)
    assert {score.outcome for score in scores} == {"judged"}


def test_what_a_reward_starts_is_killed_with_it(tmp_path):
    seconds = f"77.{os.getpid()}"  # no other process says that
    (score,) = graded([f"start {seconds}"], tmp_path)
    assert score.outcome == "timeout"
    deadline = time.monotonic() + 10
    while any(seconds.encode() in command for command in commands()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_workers_that_die_idle_are_replaced(tmp_path):
    reward, before = Obedient(), children()
    with Grader([reward], Grading(workers=1), tmp_path) as grader:
        grade(grader, reward, ["yes"])
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)
        assert grade(grader, reward, ["yes"])[0].correct
        # The spare one, while another judges.
        deaths = iter(sorted(children() - before))
        killer = threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGKILL) for pid in deaths])
        killer.start()
        assert [s.outcome for s in grade(grader, reward, ["sleep 1.0", "yes"])] == ["judged"] * 2


def test_bounded_rewards_need_no_process(tmp_path):
    before = children()
    reward = InPlace()
    with Grader([reward], Grading(), tmp_path) as grader:
        assert children() == before
        assert [s.correct for s in grade(grader, reward, ["yes", "no"])] == [True, False]
        with pytest.raises(RewardError, match="no such thing"):
            grade(grader, reward, ["raise"])


def test_a_worker_that_cannot_start_says_why(tmp_path):
    with pytest.raises(TrainingError, match=r"(?s)could not start.*no module named sympathy"):
        graded(["yes"], tmp_path, reward=Unprepared())


def test_several_rewards_share_the_workers(tmp_path):
    obedient, mathematical = Obedient(), Math()
    with Grader([obedient, mathematical], Grading(workers=1, time_limit=5), tmp_path) as grader:
        assert grade(grader, obedient, ["yes"])[0].correct
        half = Problem([], "0.5")
        assert grader.grade(mathematical, [Response(r"\boxed{\frac{1}{2}}")], [half])[0].correct


@pytest.mark.parametrize("workers", [0, -1])
def test_settings_are_checked(workers):
    with pytest.raises(ConfigError, match=r"grading.workers must be positive"):
        Grading(workers=workers)


def in_another_process(folder: Path, queue) -> None:
    queue.put([score.correct for score in graded(["yes", "no"], folder)])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_works_in_any_process(tmp_path, method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    # A daemon may have no multiprocessing children of its own.
    process = context.Process(target=in_another_process, args=(tmp_path, queue), daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 0 and queue.get() == [True, False]


def test_works_in_any_thread(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(graded(["yes", "spin"], tmp_path)))
    thread.start()
    thread.join()
    assert [score.outcome for score in found[0]] == ["judged", "timeout"]


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_no_worker_outlives_a_killed_run(tmp_path):
    arguments = (["spin", "sleep 100"], tmp_path)
    run = multiprocessing.get_context("fork").Process(
        target=graded, args=arguments, kwargs={"time_limit": 3}
    )
    run.start()
    while len(workers := children(run.pid)) < 3:
        time.sleep(0.1)
    time.sleep(2)
    run.kill()
    run.join()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
