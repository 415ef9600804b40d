"""`stapo conformance`: what it finds in objectives that are right and wrong, and how it refuses."""

from __future__ import annotations

import pytest

from stapo_pl.cli.conformance import main
from stapo_pl.conformance import check_invariance, check_likeness, check_silencing, find_vector
from stapo_pl.objectives import GRPO, IcePop, TokenAdvantage
from support import own_objectives
from support.objectives import build_objective
from support.places import OBJECTIVES

CISPO = "cispo(low=0.2,high=0.28) token-mean"
# What the YAMLs equal, some of them with other settings. Nothing recorded has a selection.
LIKE = {
    "cispo": CISPO,
    "clip_cov": "clip_cov(ratio=1,lb=0.5,ub=5) token-mean",
    "dapo": "clip(0.2,0.28) token-mean",
    "dppo_kl": "dppo_kl(low=0.05,high=0.05,c=20) token-mean",
    "dppo_tv": "dppo_tv(low=0.15,high=0.15,c=20) token-mean",
    "dr_grpo": "clip(0.2,0.2) seq-mean-token-sum-norm",
    "dro": "dro(beta=0.5) token-mean",
    "gmpo": "gmpo(0.4,0.4)",
    "gpg": "gpg token-mean",
    "grpo": "clip(0.2,0.2) seq-mean-token-mean",
    "gspo": "gspo(3e-4,4e-4)",
    "justrl": "clip(0.2,0.28) token-mean",
    "kl_cov": "kl_cov(ratio=0.05,coef=1.0) token-mean",
    "reinforce": "gpg token-mean",
    "sapo": "sapo(tau_pos=1.0,tau_neg=1.05) seq-mean-token-mean",
}
SETTINGS = {
    "clip_cov": {"ratio": 1.0, "band_low": 0.5, "clip_high": 0.28},
    "dppo_kl": {"bound_low": 0.05, "bound_high": 0.05},
    "kl_cov": {"ratio": 0.05},
}
ADVANTAGES = {
    "dr_grpo": "dr_grpo(mean only)",
    "gpg": "gpg",
    "grpo": "grpo(std, ddof=1, eps=1e-6)",
    "opo": "opo(length-weighted baseline)",
    "otb": "otb(old_logp, collision)",
    "reinforce_pp": "reinforce++(gamma=1, token-whitened)",
    "rloo": "rloo",
}
CUTS = {f"loss and gradient of {cut} micro-batches as of one" for cut in (2, 4, 8)}
ORDER = "loss and gradient of sequences in another order"
VERL = {f"{name} as verl computed it" for name in ("loss", "gradient")}
SILENCED = "gradient of silenced tokens"


def failed(objective, like: str | None = None) -> set[str]:
    """The checks that an objective does not pass; there are six, and two beside verl's losses."""
    checks = [*check_invariance(objective, 1e-9), check_silencing(objective)]
    if like is not None:
        vector = find_vector(like)
        checks += check_likeness(objective, vector, vector.tolerance)
    expected = {*CUTS, ORDER, SILENCED} | (VERL if like else set())
    assert {check.name for check in checks} == expected
    return {check.name for check in checks if not check.passed}


def refused(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main([*words])
    out, error = capsys.readouterr()
    (line,) = error.splitlines()
    assert end.value.code == 2 and line.startswith("error: ") and not out
    return line


@pytest.mark.parametrize("name", OBJECTIVES)
def test_shipped_objectives_pass(name):
    assert failed(build_objective(name, **SETTINGS.get(name, {})), LIKE.get(name)) == set()
    assert failed(build_objective(name, kl_coef=0.1, entropy_coef=0.05)) == set()


def test_a_wrong_clip_differs_from_verl_and_in_nothing_else():
    assert failed(own_objectives.ClipsAtAThird(), CISPO) == VERL


def test_a_gradient_through_silenced_tokens_is_found():
    assert failed(own_objectives.LeaksThroughTheRatio()) == {SILENCED}


def test_a_loss_that_depends_on_the_cut_is_found():
    assert failed(own_objectives.DependsOnTheCut()) == CUTS


def test_a_loss_that_depends_on_the_order_is_found():
    assert failed(own_objectives.DependsOnTheOrder()) == {ORDER}


def test_what_is_not_a_number_is_not_equal_to_itself():
    assert failed(own_objectives.IsNotANumber(), CISPO) == {*VERL, *CUTS, ORDER}


@pytest.mark.parametrize(("key", "high", "differs"), [("icepop(0.5", 2, False), ("icep", 3, True)])
def test_corrections_are_those_of_the_objective(key, high, differs):
    (check,) = check_likeness(GRPO(correction=IcePop(high=high)), find_vector(key), 1e-9)
    assert check.passed != differs


def test_losses_are_compared_where_a_correction_is_1():
    assert failed(build_objective("cispo", correction={"class_path": "TokenTIS"}), CISPO) == set()


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_are_those_of_the_objective(name):
    for other, key in ADVANTAGES.items():
        (check,) = check_likeness(build_objective(name), find_vector(key), 1e-9)
        assert check.passed == (other == name)


def test_advantages_of_tokens_are_given_what_they_need():
    class Half(TokenAdvantage):
        def advantages(self, tokens, statistics, world):
            assert statistics.logprobs_T.equal(tokens.old_logprobs_T)
            assert tokens.group_T.unique().tolist() == [0, 1, 2]
            return tokens.rewards_T - 0.5

    (check,) = check_likeness(GRPO(token_advantage=Half()), find_vector("dr_grpo"), 1e-9)
    assert check.difference == 0.5  # in a group whose rewards are all equal


def test_a_table_of_all_checks_is_printed_and_a_failure_is_the_exit_code(capsys):
    main(["CISPO", "--like", "cispo(low=0.2"])
    head, _, *table = capsys.readouterr().out.splitlines()
    assert head == f"beside verl 0.9.1, losses: {CISPO}"
    assert len(table) == 2 + 7 and all("| passed |" in row for row in table[2:])
    with pytest.raises(SystemExit) as end:
        main(["CISPO", "clip_high=0.3", "--like", "cispo(low=0.2"])
    rows = capsys.readouterr().out.splitlines()[4:]
    assert end.value.code == 1 and [row.count("FAILED") for row in rows] == [1, 1, 0, 0, 0, 0, 0]
    main(["CISPO", "clip_high=0.3", "--like", "cispo(low=0.2", "--tolerance", "0.01"])
    assert capsys.readouterr().out.count("| 0.01    | passed |") == 6


def test_without_a_key_invariance_and_silencing_are_checked(capsys):
    main(["support.own_objectives.NeedsANumber", "number=0.4"])
    assert capsys.readouterr().out.count("| passed |") == 5


def test_settings_are_words_of_the_class(capsys):
    main(["GRPO", "correction=IcePop", "objective.correction.high=2", "--like", "icepop"])
    assert capsys.readouterr().out.count("| passed |") == 6


def test_it_lists_what_it_can_compare(capsys):
    main(["--list"])
    kinds = "".join(capsys.readouterr().out).split("\n")
    assert kinds.index("losses:") < kinds.index(f"  {CISPO}") < kinds.index("advantages:")
    assert kinds.index("advantages:") < kinds.index("  rloo") < kinds.index("corrections:")


def test_a_key_is_its_beginning_or_all_of_it():
    assert find_vector("sapo").key == LIKE["sapo"]
    assert find_vector("gpg").kind == "advantages" and find_vector("gpg ").kind == "losses"


def test_wrong_words_are_one_line(capsys):
    several = refused(capsys, "GSPO", "--like", "gspo")
    assert several.endswith('which of them? "gspo(3e-4,4e-4)", "gspo(0.2,0.28)"')
    assert "no key begins with it" in refused(capsys, "GSPO", "--like", "ppo")
    assert "the objective has none" in refused(capsys, "GSPO", "--like", "icepop")
    assert "name a class" in refused(capsys)
    assert "did you mean GSPO?" in refused(capsys, "gspo")
    assert "cannot be imported" in refused(capsys, "no_module.Loss")
    assert "is no Objective" in refused(capsys, "stapo_pl.objectives.S2T")
    assert "is abstract" in refused(capsys, "stapo_pl.objectives.Objective")
    needs = refused(capsys, "support.own_objectives.NeedsANumber")
    assert needs.endswith("needs objective.number=...")
    assert "has a gradient" in refused(capsys, "support.own_objectives.HasNoGradient")
    assert "did you mean objective.clip_high?" in refused(capsys, "GRPO", "clip_hig=0.3")
    assert "must not be negative" in refused(capsys, "GRPO", "clip_high=-1")
