"""The data of the inspector's page."""

from __future__ import annotations

import json
import re

import pytest

from stapo_pl.insight.inspector.data import page_data
from stapo_pl.insight.inspector.frequent import kind_of, most_frequent
from stapo_pl.insight.inspector.page import render
from stapo_pl.insight.inspector.pieces import Pieces
from support.recorded import HOSTILE, TEXTS, Folder, tokenizer


@pytest.fixture
def made(tmp_path) -> Folder:
    return Folder(tmp_path / "name" / "version_0")


def data_of(made: Folder, **kwargs):
    return page_data(made.folder, made.tokenizer, **kwargs)


def column(data, name, group):
    rare = data["rare"]
    return [x for x, g in zip(rare[name], rare["group"], strict=True) if g == group]


def test_a_rare_token_has_its_context_its_numbers_and_its_alternatives(made):
    made.write(TEXTS[:1], rare=(2,))
    data = data_of(made)
    ids = made.tokenizer.encode(TEXTS[0])
    (before,), (after,), (piece,) = (column(data, n, 0) for n in ("before", "after", "piece"))
    assert before == made.tokenizer.decode(ids[:2])
    assert data["pieces"][piece] == made.tokenizer.decode(ids[2])
    assert after.endswith("…") and TEXTS[0].startswith(before + data["pieces"][piece] + after[:-1])
    rare = data["rare"]
    assert (rare["p"], rare["entropy"], rare["advantage"]) == ([0.001], [0.1], [1.0])
    assert rare["ratio"] == [1.105] and rare["gap"] == [0.01]
    (alternatives,) = rare["alternatives"]
    assert [data["pieces"][p] for p in alternatives] == [made.tokenizer.decode(i) for i in ids[:5]]
    assert rare["probabilities"] == [[0.9, 0.04, 0.03, 0.01, 0.01]]
    assert data["classes"][rare["class"][0]] == "low_p_low_H_positive"


def test_rare_tokens_are_silenced_kept_or_of_wrong_answers(made):
    made.write(TEXTS[:2], advantages=[1.0, -1.0], rare=(1, 3), kept_rare=(2,))
    data = data_of(made)
    assert [len(column(data, "p", group)) for group in range(3)] == [2, 1, 3]
    assert column(data, "place", 1) == [2]


def test_tokens_find_their_completions_on_any_rank_and_in_each_visit(made):
    made.write(TEXTS[:2], rollout=0, rank=1, token_rank=0, rare=(1,))
    made.write(TEXTS[1:], rollout=1, rank=0, rare=(1,))
    data = data_of(made)
    completions = data["completions"]
    texts = ["".join(data["pieces"][p] for p in pieces) for pieces in completions["pieces"]]
    assert texts == [*TEXTS[:2], *TEXTS[1:]]
    assert completions["count"] == [len(pieces) for pieces in completions["pieces"]]
    assert completions["step"] == [0, 0, 1, 1]
    assert completions["first"] == [sum(completions["count"][:n]) for n in range(4)]
    places = data["tokens"]["place"]
    assert [places[f] for f in completions["first"]] == [0] * 4
    rare = data["rare"]
    for shown, place, piece in zip(rare["shown"], rare["place"], rare["piece"], strict=True):
        assert completions["pieces"][shown][place] == piece


def test_a_page_without_room_shows_some_completions_and_all_rare_tokens_and_says_so(made):
    made.write(["one " * 9 + "1"] * 20, rollout=0)
    made.write(["two " * 9 + "2"] * 2, rollout=1, rare=(1,))
    whole, cut = data_of(made), data_of(made, most_tokens=100)
    assert len(whole["completions"]["rollout"]) == 22 and not whole["notes"]
    lengths = [len(p) for p in cut["completions"]["pieces"]]
    assert 50 < sum(lengths) <= 100 and cut["completions"]["rollout"].count(1) == 2
    assert len(cut["rare"]["p"]) == len(whole["rare"]["p"]) == 2
    assert cut["plane"] == whole["plane"] and cut["gaps"] == whole["gaps"]
    (note,) = cut["notes"]
    assert f"The page holds {len(lengths)} of 22 completions" in note
    assert cut == data_of(made, most_tokens=100)


def test_what_is_not_recorded_is_said(made):
    assert "recorder.tokens=all" in data_of(made)["notes"][-1]
    made.write(TEXTS, rare=(1,), tokens="rare", total=1000)
    (note,) = data_of(made)["notes"]
    assert "tokens were not recorded (recorder.tokens was rare)" in note


def test_the_completions_of_a_run_that_was_killed_may_be_missing(made):
    made.write(TEXTS[:1], rollout=0, rare=(1,))
    made.write(TEXTS[:1], rollout=1, rare=(1,))
    (made.folder / "records" / "completions-000001-0000.parquet").unlink()
    (made.folder / "records" / "completions-000001-0000.tmp").write_bytes(b"PAR1")
    data = data_of(made)
    assert "The completions of 1 visits are not recorded (yet)." in data["notes"]
    assert data["rare"]["shown"] == [0, -1] and data["rare"]["before"][1] == ""


def test_a_rollout_in_which_nothing_had_a_pass_is_shown(made):
    made.write(TEXTS, left_out=True)
    data = data_of(made)
    assert data["completions"]["step"] == [None] * 3 and data["tokens"]["p"] == []
    tokens = sum(map(len, data["completions"]["pieces"]))
    assert data["notes"][0].startswith(f"{tokens} tokens were in sequences that had no pass")
    assert render(data)


def test_curves_and_rollouts_have_one_axis_of_time(made):
    made.write_curves(4)
    data = data_of(made)
    assert data["curves"]["policy/entropy"] == ([0, 1, 2, 3], [0.2, 0.21, 0.22, 0.23])
    assert data["rollouts"] == [(0, 0, 1), (1, 2, 3)]
    for step in range(3):
        made.write(TEXTS[:1], rollout=step // 2, step=step)
    assert data_of(made)["rollouts"] == [(0, 1, 1), (1, 2, 2)]


def test_shares_of_classes_are_the_curves_of_the_run(made):
    """Records may hold some of the tokens only."""
    made.write(TEXTS[:1], rare=(2,))
    name = "tokens/low_p_low_H_positive"
    (made.folder / "metrics.csv").write_text(
        f"step,{name}/share,{name}/loss_share\n0,0.25,0.5\n1,0.125,0.5\n"
    )
    assert data_of(made)["shares"] == {"low_p_low_H_positive": ([0, 1], [0.25, 0.125])}


def test_shares_of_classes_are_those_of_all_tokens(made):
    made.write(["1" * 10], rare=(1,), kept_rare=(2, 3))
    shares = data_of(made)["shares"]
    assert shares["low_p_low_H_positive"] == ([0], [0.1])
    assert shares["low_p_high_H_positive"] == ([0], [0.2])
    assert shares["high_p_high_H_positive"] == ([0], [0.7])


def test_gaps_are_of_silenced_tokens_beside_others(made):
    made.write(TEXTS[:1], rare=(1,), kept_rare=(2,))
    silenced, rare, others = data_of(made)["gaps"]["summary"]
    assert (silenced["count"], silenced["mean"]) == (1, 0.01)
    assert (rare["count"], others["mean"]) == (1, 0.0)


def test_masks_of_shadows_have_a_value_for_each_token(made):
    made.write(TEXTS[:1])
    tokens = data_of(made)["tokens"]
    assert tokens["masks"]["shadow"] == [float(place % 2 == 0) for place in tokens["place"]]


def test_no_text_of_the_model_is_html(made):
    made.write(TEXTS)
    data = data_of(made)
    page = render(data)
    ours = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert "<" not in ours[1] and page.count("window.hit") == 0
    back = json.loads(ours[1])
    pieces = ["".join(back["pieces"][p] for p in row) for row in back["completions"]["pieces"]]
    assert pieces[2] == HOSTILE


def test_a_page_fetches_nothing(made):
    page = render(data_of(made))
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|script|img)[^>]+(src|href)=", page)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" Wait", "words"), ("don't", "words"), ("42", "digits"), (" 3.14", "digits"),
        ("+", "operators"), (" <=", "operators"), ("\\boxed", "LaTeX"), ("$", "LaTeX"),
        ("}{", "LaTeX"), ("frac", "LaTeX"), (" \\(", "LaTeX"), ("\n\n", "others"), (",", "others"),
        ("x1", "others"), ("x", "words"),
    ],
)  # fmt: skip
def test_tokens_have_kinds(text, kind):
    assert kind_of(text) == kind


def test_frequent_tokens_are_counted_by_kind():
    found = most_frequent(["1", " So", "1", "2", "+"])
    assert found["digits"] == [("1", 2), ("2", 1)] and found["words"] == [(" So", 1)]
    assert found["LaTeX"] == []


def test_pieces_keep_spaces_and_show_bytes():
    pieces, coder = Pieces(tokenizer()), tokenizer()
    (space,) = coder.encode(" the")
    assert pieces.text(space) == " the"
    parts = [pieces.text(i) for i in coder.encode("é")]
    assert len(parts) > 1 and all(part.startswith("⟨") for part in parts)
    assert Pieces(None).text(7) == "⟨7⟩" and Pieces(None).around([1, 2, 3], 1) == ("⟨1⟩", "⟨3⟩")
