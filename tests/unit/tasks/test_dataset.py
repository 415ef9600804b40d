"""From rows to problems: columns, templates, bad rows, and what is held out."""

from __future__ import annotations

import json

import pyarrow.parquet
import pytest
import yaml

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import ProblemSet
from stapo_pl.policy.loading import load_tokenizer
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rewards import Exact, Function, Math, Term, Weighted
from stapo_pl.rollout.prompts import PromptRules, make_prompts
from stapo_pl.tasks import Dataset
from support.places import CONFIGS
from support.rows import BOX, ROWS, asked, verl_row, whole, write


@pytest.fixture
def rows(tmp_path) -> str:
    return write(tmp_path / "rows.jsonl", ROWS)


def test_validation_rows_are_held_out_of_training(rows):
    task = Dataset(rows, validation_size=4)
    validation, train = asked(task.validation_problems()), asked(task.train_problems())
    assert validation == [f"{i}+{i}?" for i in range(4)] and train == [
        f"{i}+{i}?" for i in range(4, 9)
    ]


def test_copies_of_held_out_rows_are_not_trained_on(tmp_path):
    task = Dataset(write(tmp_path / "rows.jsonl", ROWS * 3), validation_size=4)
    train = task.train_problems()
    assert asked(train) == [f"{i}+{i}?" for i in [4, 5, 6, 7, 8] * 3] and train.filtered == 8
    assert train.held_out == 4


def test_different_problems_are_held_out(tmp_path):
    """Where copies lie together, a size is still a number of problems."""
    rows = [row for row in ROWS for _ in range(3)]
    task = Dataset(write(tmp_path / "rows.jsonl", rows), validation_split="none here",
                   validation_size=4)  # fmt: skip
    validation, train = task.validation_problems(), task.train_problems()
    assert asked(validation) == [f"{i}+{i}?" for i in range(4)] and validation.filtered == 6
    assert len(train.problems) == 3 * len(ROWS) - 12 and train.filtered == 2


def test_every_row_is_accounted_for_once(tmp_path):
    bad = {"problem": " ", "answer": "1", "level": 0}
    task = Dataset(
        write(tmp_path / "rows.jsonl", [bad, *ROWS, bad]),
        filter={"level": [0, 1]},
        validation_size=3,
    )
    validation, train = task.validation_problems(), task.train_problems()
    assert asked(validation) == ["0+0?", "1+1?", "3+3?"]
    assert asked(train) == ["4+4?", "6+6?", "7+7?"]
    assert (len(validation.bad_rows), len(train.bad_rows)) == (1, 1)
    assert (validation.filtered, train.filtered) == (1, 2)


@pytest.mark.parametrize("size", [None, 9])
def test_training_needs_rows_that_are_not_held_out(rows, size):
    task = Dataset(rows, validation_size=size)
    assert len(task.validation_problems().problems) == 9
    with pytest.raises(ConfigError, match=r"validation_size=.* none is left to train on"):
        task.train_problems()


def test_a_run_that_validates_on_benchmarks_trains_on_all_rows(rows):
    task = Dataset(rows, validation_size=0)
    assert len(task.train_problems().problems) == 9
    with pytest.raises(ConfigError, match=r"size=0 leaves no problem of .*name benchmarks"):
        task.validation_problems()


def test_validation_of_its_own(tmp_path, rows):
    other = write(tmp_path / "other.json", [{"problem": "x?", "answer": "1"}] * 3)
    task = Dataset(rows, validation_path=other, validation_size=2)
    assert (
        asked(task.validation_problems()) == ["x?"] * 2 and len(asked(task.train_problems())) == 9
    )
    task = Dataset(rows, validation_path=other, validation_size=None)
    assert len(asked(task.validation_problems())) == 3


@pytest.mark.parametrize("value, count", [(1, 3), ([0, 1], 6), ([], 0)])
def test_the_filter_keeps_rows_with_the_value(rows, value, count):
    found = whole(rows, filter={"level": value})
    assert (len(found.problems), found.filtered, found.bad_rows) == (count, 9 - count, [])


def test_columns_may_be_nested(tmp_path):
    nested = [{"data": {"q": "1+1?"}, "final": ["2", "two"], "a.b": "dotted"}]
    for name in ("rows.parquet", "rows.jsonl"):
        path = write(tmp_path / name, nested)
        (problem,) = whole(path, prompt="data.q", answer="final.0").problems
        assert (problem.messages[0]["content"], problem.answer) == ("1+1?", "2")
        assert asked(whole(path, prompt="a.b", answer="final.1")) == ["dotted"]


def test_templates_and_system_messages(tmp_path):
    made = [
        {"problem": text, "answer": "1"} for text in ("{a} \\boxed{1} 1+1?", r"Box it: \boxed{}")
    ]
    path = write(tmp_path / "rows.json", made)
    assert asked(whole(path, template=BOX)) == [
        "{a} \\boxed{1} 1+1?\nPut it within \\boxed{}.", r"Box it: \boxed{}"
    ]  # fmt: skip
    assert asked(whole(path, template="Q: {problem}")) == [
        r"Q: {a} \boxed{1} 1+1?", r"Q: Box it: \boxed{}"
    ]  # fmt: skip
    problem = whole(path, system="Be brief.").problems[0]
    assert [m["role"] for m in problem.messages] == ["system", "user"]
    assert problem.messages[0]["content"] == "Be brief."


def test_the_pattern_finds_the_problem(tmp_path):
    path = write(
        tmp_path / "rows.jsonl", [verl_row("Solve:\n1+1?\nEnd.", "2"), verl_row("2?", "2")]
    )
    found = whole(path, pattern=r"Solve:\n(.*)\nEnd\.", template=BOX)
    assert asked(found) == ["1+1?\nPut it within \\boxed{}."]
    assert found.bad_rows == [f"{path}, row 2: prompt does not match task.pattern: '2?'"]


def test_the_wrapper_of_dapo_is_taken_off(tmp_path):
    wrapped = (
        "Solve the following math problem step by step. The last line of your response should be "
        "of the form Answer: $Answer (without quotes) where $Answer is the answer to the problem."
        '\n\nWhat is\n\n$1+1$?\n\nRemember to put your answer on its own line after "Answer:".'
    )
    settings = yaml.safe_load((CONFIGS / "task" / "dapo_math_17k.yaml").read_text())["task"]
    pattern, template = (settings["init_args"][key] for key in ("pattern", "template"))
    path = write(tmp_path / "rows.parquet", [verl_row(wrapped, "2")])
    assert asked(whole(path, pattern=pattern, template=template)) == [
        "What is\n\n$1+1$?\nPlease reason step by step, and put your final answer within \\boxed{}."
    ]


def test_verl_rows_are_read_whatever_the_columns_are_called(tmp_path):
    row = verl_row("1+1?", "2") | {"extra_info": {"index": "a-0"}}
    row["prompt"].insert(0, {"role": "system", "content": "You add."})
    path = write(tmp_path / "rows.parquet", [row])
    (problem,) = whole(path, template=BOX, system="Be brief.").problems
    assert problem.messages == [
        {"role": "system", "content": "You add."},
        {"role": "user", "content": "1+1?\nPut it within \\boxed{}."},
    ]
    assert (problem.answer, problem.data_source, problem.extra) == ("2", "made", {"index": "a-0"})


def test_columns_that_are_named_go_before_those_of_verl(tmp_path):
    row = verl_row("1+1?", "2") | {"extra_info": {"other": "3"}, "question": "2+1?"}
    path = write(tmp_path / "rows.jsonl", [row])
    (problem,) = whole(path, answer="extra_info.other").problems
    assert (problem.messages[0]["content"], problem.answer) == ("1+1?", "3")
    assert asked(whole(path, prompt="question")) == ["2+1?"]


GOOD = {"problem": "1+1?", "answer": "2"}


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"problem": "1+1?"}, "column answer is missing"),
        ({"answer": "2"}, "column problem is missing"),
        (GOOD | {"problem": ""}, "problem is empty"),
        (GOOD | {"problem": " \n"}, "problem is empty"),
        (GOOD | {"problem": []}, "problem is empty"),
        (
            GOOD | {"problem": 7},
            "problem is 7 (int), expected text or chat messages (role, content)",
        ),
        (GOOD | {"problem": None}, "problem is None (NoneType), expected text or chat messages"),
        (GOOD | {"problem": [{"content": "1+1?"}]}, "expected text or chat messages"),
        (GOOD | {"problem": [{"role": "user", "content": " "}]}, "problem is empty"),
        (GOOD | {"answer": True}, "answer is True (bool), expected text or a number"),
        (GOOD | {"answer": ["5"]}, "answer is ['5'] (list), expected text or a number"),
        (GOOD | {"answer": {"a": 5}}, "answer is {'a': 5} (dict), expected text or a number"),
        (GOOD | {"answer": float("nan")}, "answer is nan, expected a finite number"),
        (GOOD | {"problem": '[{"role": "user"}]'}, "expected text or chat messages"),
        (
            GOOD | {"problem": [{"role": "assistant", "content": "2"}]},
            "problem has no message that is not the assistant's",
        ),
        (GOOD | {"answer": None}, "answer is None (NoneType), expected text"),
        (GOOD | {"answer": ""}, "answer is empty"),
        (verl_row("1+1?", "2") | {"prompt": "\t"}, "prompt is empty"),
        (
            verl_row("1+1?", "2") | {"reward_model": {}},
            "column reward_model.ground_truth is missing",
        ),
        (verl_row("1+1?", "2") | {"extra_info": "x"}, "extra_info is 'x', expected an object"),
        (
            GOOD
            | {
                "problem": [
                    {"role": r, "content": c} for r, c in (("system", "\ud800"), ("user", "1+1?"))
                ]
            },
            "problem is no Unicode text",
        ),
        ([GOOD], "expected an object, got list"),
        ("no json", "no JSON (Expecting value: line 1 column 1 (char 0))"),
        ('{"problem": "\xff"}', "no JSON ("),
        ("[" * 10**5, "no JSON ("),
    ],
)
def test_a_bad_row_is_named_and_no_other_is_lost(tmp_path, row, reason):
    path = tmp_path / "rows.jsonl"
    line = row if isinstance(row, str) else json.dumps(row)
    path.write_bytes(f"{json.dumps(GOOD)}\n\n{line}\n{json.dumps(GOOD)}".encode("latin-1"))
    found = whole(str(path))
    assert [p.place for p in found.problems] == [f"{path}, row 1", f"{path}, row 4"]
    (bad,) = found.bad_rows
    assert bad.startswith(f"{path}, row 3: ") and reason in bad


def test_a_column_that_no_row_has_is_an_error(tmp_path, rows):
    message = "no row has the column question; there are problem, answer, level: set task.prompt"
    for path in (rows, write(tmp_path / "rows.parquet", ROWS)):
        with pytest.raises(ConfigError, match=message):
            whole(path, prompt="question")
        with pytest.raises(ConfigError, match=message):
            whole(path, prompt="question", filter={"level": 1})
    with pytest.raises(ConfigError, match="no row has the column kind"):
        whole(rows, filter={"kind": "x"})


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"path": "none.parquet"}, "task.path=none.parquet: no such file"),
        ({"path": "none"}, "task.path=none: no such file"),
        ({"validation_path": "none.json"}, "task.validation_path=none.json: no such file"),
        ({"validation_size": -1}, "validation_size must be at least 0"),
        ({"template": "box it"}, "expected {problem} in it"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": ".*"}, "expected a group"),
    ],
)
def test_settings_are_checked(rows, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        Dataset(**{"path": rows} | kwargs)


def test_the_reward_is_mathematics_unless_another_is_given(rows):
    assert isinstance(Dataset(rows).reward, Math)
    assert isinstance(Dataset(rows, reward=Exact()).reward, Exact)


def test_numbers_are_answers_as_the_file_writes_them(tmp_path):
    path = tmp_path / "rows.jsonl"
    written = ["7", "0", "-3", "0.5", "0.10", "1e22", "0.1000000000000000055", str(10**30)]
    path.write_text("".join(f'{{"problem": "1?", "answer": {text}}}\n' for text in written))
    assert [problem.answer for problem in whole(str(path)).problems] == written
    for values in ([7, 0], [0.5, 0.1]):
        made = [{"problem": "1?", "answer": value} for value in values]
        found = whole(write(tmp_path / "rows.parquet", made)).problems
        assert [problem.answer for problem in found] == list(map(str, values))


def test_a_function_of_ones_own_gets_any_answer_as_json(tmp_path):
    answers = [{"target": 3, "numbers": [1, 2.50]}, ["4", "four"], True]
    path = write(tmp_path / "rows.jsonl", [{"problem": "?", "answer": a} for a in answers])
    reward = Function("support.rows.write")
    found = whole(path, reward=reward).problems
    assert [json.loads(problem.answer) for problem in found] == answers
    assert len(whole(path, reward=Weighted({"own": Term(1, reward)})).problems) == 3
    assert len(whole(path).bad_rows) == 3


@pytest.mark.parametrize("size", [1, 3, 64])
def test_where_all_rows_are_bad_training_says_why(tmp_path, size):
    path = write(tmp_path / "rows.jsonl", [{"problem": "?", "answer": [i]} for i in range(12)])
    tokenizer = load_tokenizer(str(shipped_policy()))
    for rule, start in (("error", "12 of 12 training rows cannot be used: "), ("skip", "the task")):
        with pytest.raises(ConfigError) as error:
            found = Dataset(path, validation_size=size).train_problems()
            make_prompts(found, tokenizer, PromptRules(10, rule), "training")
        text = str(error.value)
        assert text.startswith(start) and "row 10: answer is [9] (list)" in text
        assert "and 2 more" in text and "row 11" not in text


def test_where_training_has_only_bad_rows_it_says_why(rows, tmp_path):
    mixed = write(tmp_path / "mixed.jsonl", [{"problem": "?"}, *ROWS[:4], {"problem": "?"}])
    found = Dataset(mixed, validation_size=4).train_problems()
    assert not found.problems and [bad.split(", ")[-1] for bad in found.bad_rows] == [
        f"row {n}: column answer is missing" for n in (1, 6)
    ]
    found = Dataset(rows, filter={"level": 7}).train_problems()
    assert (found.problems, found.filtered) == ([], 9)


def test_the_solution_of_the_assistant_is_not_asked(tmp_path):
    user, reply = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
    again, tool = {"role": "user", "content": "2+2?"}, {"role": "tool", "content": "4"}
    chats = [[user, reply], [user, reply, again, reply, reply], [user], [user, reply, tool]]
    path = write(tmp_path / "rows.jsonl", [{"problem": c, "answer": "2"} for c in chats])
    found = whole(path, template="{problem} Box it.").problems
    boxed = [{"role": "user", "content": f"{text} Box it."} for text in ("1+1?", "2+2?")]
    assert [problem.messages for problem in found] == [
        boxed[:1], [user, reply, boxed[1]], boxed[:1], [boxed[0], reply, tool]
    ]  # fmt: skip
    _, counts = make_prompts(
        ProblemSet(found), load_tokenizer(str(shipped_policy())), PromptRules(999), "training"
    )
    assert counts.solutions == 2
    assert "2 without the assistant's message at their end" in counts.describe(PromptRules(999))
    bad = whole(path, last_assistant="bad_row").bad_rows
    assert bad == [f"{path}, row {n}: problem ends with a message of the assistant" for n in (1, 2)]


def test_columns_may_be_json_text(tmp_path):
    row = verl_row("1+1?", "2") | {"extra_info": {"index": 3}}
    texts = row | {key: json.dumps(row[key]) for key in ("prompt", "reward_model", "extra_info")}
    plain = {"prompt": "[1, 2] and {3}: sum?", "reward_model": {"ground_truth": "[6]"}}
    for name in ("rows.jsonl", "rows.parquet"):
        as_is, read = (whole(write(tmp_path / name, [r])).problems for r in (row, texts))
        assert (len(as_is), len(read)) == (1, 1)
        for problem in (*as_is, *read):
            assert (problem.messages, problem.answer, problem.extra) == (
                row["prompt"], "2", {"index": 3}
            )  # fmt: skip
    (problem,) = whole(write(tmp_path / "plain.jsonl", [plain])).problems
    assert (problem.messages[0]["content"], problem.answer) == (plain["prompt"], "[6]")


def test_null_in_a_message_is_no_key(tmp_path):
    message = {
        "role": "user",
        "content": "1?",
        "name": None,
        "calls": [{"id": None, "f": {"x": 1}}],
    }
    path = write(tmp_path / "rows.jsonl", [{"problem": [message], "answer": "1"}])
    (problem,) = whole(path).problems
    assert problem.messages == [{"role": "user", "content": "1?", "calls": [{"f": {"x": 1}}]}]


def test_several_files_are_read_in_order(tmp_path):
    first, second = (
        write(tmp_path / name, [*ROWS[a:b], {"problem": "?"}])
        for name, a, b in (("a.jsonl", 0, 4), ("b.parquet", 4, 9))
    )
    task = Dataset([first, second], validation_size=2)
    assert task.name == "a" and asked(task.validation_problems()) == ["0+0?", "1+1?"]
    train = task.train_problems()
    assert asked(train) == [f"{i}+{i}?" for i in range(2, 9)]
    assert [bad.split(": ")[0] for bad in train.bad_rows] == [f"{first}, row 5", f"{second}, row 6"]
    task = Dataset(first, validation_path=[second, first], validation_size=None)
    assert len(task.validation_problems().problems) == 9
    with pytest.raises(ConfigError, match=r"task\.path=none\.json: no such file"):
        Dataset([first, "none.json"])
    with pytest.raises(ConfigError, match=r"task\.path=\[\]: expected a path"):
        Dataset([])


@pytest.mark.parametrize(
    "name, text", [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.json", " "), ("a.json", "[]"),
                   ("a.parquet", "")]
)  # fmt: skip
def test_an_empty_file_is_said_to_be_empty(tmp_path, rows, name, text):
    path = tmp_path / name
    path.write_text(text)
    for paths in (str(path), [rows, str(path)]):
        with pytest.raises(ConfigError, match=f"{name} has no rows"):
            Dataset(paths).train_problems()
    table = pyarrow.table({"problem": pyarrow.array([], pyarrow.string())})
    pyarrow.parquet.write_table(table, tmp_path / "none.parquet")
    with pytest.raises(ConfigError, match=r"none\.parquet has no rows"):
        Dataset(str(tmp_path / "none.parquet")).train_problems()
