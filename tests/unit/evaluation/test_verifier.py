"""What a verifier is asked, and how its reply is read."""

from __future__ import annotations

import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem
from stapo_pl.evaluation.verifier import Verifier, read_verdict
from stapo_pl.rewards import Response


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
