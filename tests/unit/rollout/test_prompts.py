"""What becomes of problems on their way to prompts: bad rows, long ones, duplicates, format."""

from __future__ import annotations

import pytest

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, ProblemSet
from stapo_pl.policy.loading import load_tokenizer
from stapo_pl.policy.model import shipped_policy
from stapo_pl.rollout.prompts import (
    PromptRules,
    check_embedded,
    fingerprint,
    make_prompts,
    render,
    uses_chat,
)

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@pytest.fixture
def tokenizer():
    return load_tokenizer(str(shipped_policy()))


def problems(*texts: str, answers: str = "") -> list[Problem]:
    answers = answers or "1" * len(texts)
    return [
        Problem([{"role": "user", "content": text}], answer)
        for text, answer in zip(texts, answers, strict=True)
    ]


def test_long_prompts_are_refused_or_skipped_and_counted(tokenizer):
    found = ProblemSet(problems("1" * 3, "1" * 30, "1" * 5), filtered=4)
    with pytest.raises(ConfigError) as error:
        make_prompts(found, tokenizer, PromptRules(10), "training")
    assert str(error.value) == (
        "1 of 7 training rows cannot be used: training problem 2: a prompt of 30 tokens; set "
        "data.on_bad_row=skip to go without them; 1 are longer than data.max_prompt_tokens=10, the "
        "longest has 30 tokens"
    )
    rules = PromptRules(10, on_bad_row="skip")
    prompts, counts = make_prompts(found, tokenizer, rules, "training")
    assert [len(p.token_ids) for p in prompts] == [3, 5] and counts.too_long == 1
    assert [p.position for p in prompts] == [0, 1]
    assert counts.describe(rules) == (
        "2 prompts of 7 rows; dropped: 4 filtered, 1 longer than data.max_prompt_tokens=10"
    )
    rules = PromptRules(1, on_bad_row="skip")
    with pytest.raises(ConfigError, match=r"no training prompt left: 0 prompts of 7 rows.* 3 long"):
        make_prompts(found, tokenizer, rules, "training")


def test_bad_rows_are_named_up_to_ten(tokenizer):
    found = ProblemSet(problems("1+1?"), [f"f.jsonl, row {n}: bad" for n in range(2, 14)])
    with pytest.raises(ConfigError) as error:
        make_prompts(found, tokenizer, PromptRules(10), "validation")
    text = str(error.value)
    assert text.startswith("12 of 13 validation rows cannot be used: f.jsonl, row 2: bad; f.jsonl")
    assert "row 11: bad; and 2 more; set data.on_bad_row=skip" in text and "row 12" not in text
    prompts, counts = make_prompts(found, tokenizer, PromptRules(10, "skip"), "validation")
    assert (len(prompts), counts.bad, counts.rows) == (1, 12, 13)


def test_duplicates_are_kept_dropped_or_refused(tokenizer):
    found = ProblemSet(problems("1+1?", "2+2?", "1+1?", "1+1?", answers="2423"))
    made = {
        rule: make_prompts(found, tokenizer, PromptRules(10, duplicates=rule), "training")
        for rule in ("keep", "drop")
    }
    for rule, answers in (("keep", "2423"), ("drop", "24")):
        prompts, counts = made[rule]
        assert "".join(p.problem.answer for p in prompts) == answers
        assert (counts.duplicates, counts.conflicting) == (2, 1)
    assert made["keep"][1].describe(PromptRules(10)) == (
        "4 prompts; kept: 2 duplicates (1 with another answer)"
    )
    assert made["drop"][1].describe(PromptRules(10, duplicates="drop")) == (
        "2 prompts of 4 rows; dropped: 2 duplicates (1 with another answer)"
    )
    with pytest.raises(ConfigError) as error:
        make_prompts(found, tokenizer, PromptRules(10, duplicates="error"), "training")
    assert str(error.value) == (
        "2 of 4 training rows are duplicates, 1 of them with another answer: training problem 3: "
        "asked in training problem 1; training problem 4: asked in training problem 1; set "
        "data.duplicates=drop or keep"
    )


def test_a_duplicate_has_the_same_messages_all_of_them(tokenizer):
    first, second = problems("1+1?", "1+1?")
    second.messages.insert(0, {"role": "system", "content": "Be brief."})
    _, counts = make_prompts(ProblemSet([first, second]), tokenizer, PromptRules(50), "training")
    assert counts.duplicates == 0


def test_duplicates_are_dropped_before_anything_is_tokenized(tokenizer, monkeypatch):
    found = ProblemSet(problems(*["1+1?", "2+2?"] * 500))
    calls = []
    encode = tokenizer.encode
    monkeypatch.setattr(
        tokenizer, "encode", lambda text, **kwargs: calls.append(text) or encode(text, **kwargs)
    )
    make_prompts(found, tokenizer, PromptRules(10, duplicates="drop"), "training")
    assert calls == ["1+1?", "2+2?"]


def test_the_format_is_the_tokenizers_or_the_users(tokenizer):
    (problem,) = problems("1+1?")

    def text(rule):
        return tokenizer.decode(render(problem, tokenizer, uses_chat(tokenizer, rule)))

    assert text("auto") == text("plain") == "1+1?"
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        uses_chat(tokenizer, "chat")
    tokenizer.chat_template = TEMPLATE
    assert text("auto") == text("chat") == "<user>1+1?<assistant>"
    assert text("plain") == "1+1?"


def test_a_row_that_the_chat_template_refuses_is_a_bad_row(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ConfigError, match=r"problem 1: the chat template refuses it .no system"):
        make_prompts(ProblemSet(problems("1+1?")), tokenizer, PromptRules(10), "training")


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content + 1 }}", "{{ 1 / 0 }}", "{{ a.b.c }}"]
)
def test_any_error_of_a_chat_template_is_the_rows(tokenizer, template):
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match="training problem 1: the chat template refuses it"):
        make_prompts(ProblemSet(problems("1+1?")), tokenizer, PromptRules(10), "training")


def test_tokens_that_the_model_has_not_are_named(tokenizer):
    check_embedded([[0, 5], [6]], tokenizer, 7, "validation")
    name = tokenizer.convert_ids_to_tokens(6)
    with pytest.raises(ConfigError) as error:
        check_embedded([[0, 5], [6]], tokenizer, 6, "validation")
    assert "the validation prompts have tokens" in str(error.value)
    assert f"vocab_size is 6: {name} (6);" in str(error.value)


def test_the_fingerprint_is_of_prompts_answers_and_order(tokenizer):
    def of(*texts, answers=""):
        found = ProblemSet(problems(*texts, answers=answers))
        return fingerprint(make_prompts(found, tokenizer, PromptRules(10), "training")[0])

    assert of("1", "2") == of("1", "2")
    assert len({of("1", "2"), of("2", "1"), of("1"), of("1", "2", answers="12")}) == 4
