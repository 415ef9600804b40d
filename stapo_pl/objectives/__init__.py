"""This room holds the objectives, which are the losses that a policy can be trained with.

Open `base.py` first: it says what an objective is made of. Each objective has a file of its own.
`clipped.py` holds the range of a ratio, `grpo.py` the clipped loss, and `justrl.py`, `dapo.py`,
`dr_grpo.py`, `entropy20.py` and `stapo.py` say how they differ from it. `gspo.py` and `gmpo.py`
have the ratio of a sequence, and `cispo.py`, `sapo.py`, `dppo.py`, `dro.py` and `reinforce.py` have
other losses of a token. `gpg.py`, `rloo.py`, `opo.py`, `reinforce_pp.py`, `maxrl.py` and `otb.py`
have other advantages. `kl_cov.py` and `clip_cov.py` treat a few tokens differently that they find
by `covariance.py`. `opd.py` learns from a teacher. `selections.py` decides which tokens keep their
loss, and `rare_selections.py` which rare tokens do. `corrections.py` corrects for the difference
between sampler and trainer, and `correction_masks.py` masks what differs too much. `kl.py` measures
the distance to another policy. `token_advantages.py` is the place for advantages that differ from
token to token. A selection, a correction and a KL term combine with any objective.
"""

from stapo_pl.objectives.base import Objective
from stapo_pl.objectives.cispo import CISPO
from stapo_pl.objectives.clip_cov import ClipCov
from stapo_pl.objectives.correction_masks import (
    SequenceMaxK3Mask,
    SequenceMeanK3Mask,
    SequenceRatioMask,
    TokenK3Mask,
)
from stapo_pl.objectives.corrections import (
    Correction,
    IcePop,
    SequenceIcePop,
    SequenceTIS,
    TokenTIS,
)
from stapo_pl.objectives.dapo import DAPO
from stapo_pl.objectives.dppo import DPPOKL, DPPOTV
from stapo_pl.objectives.dr_grpo import DrGRPO
from stapo_pl.objectives.dro import DRO
from stapo_pl.objectives.entropy20 import Entropy20
from stapo_pl.objectives.gmpo import GMPO
from stapo_pl.objectives.gpg import GPG
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.objectives.gspo import GSPO
from stapo_pl.objectives.justrl import JustRL
from stapo_pl.objectives.kl_cov import KLCov
from stapo_pl.objectives.maxrl import MaxRL
from stapo_pl.objectives.opd import OPD, Distillation
from stapo_pl.objectives.opo import OPO
from stapo_pl.objectives.otb import OTB, OptimalTokenBaseline
from stapo_pl.objectives.rare_selections import (
    S2T,
    AllRare,
    HighEntropyRare,
    RandomRare,
    RareSelection,
)
from stapo_pl.objectives.reinforce import REINFORCE
from stapo_pl.objectives.reinforce_pp import ReinforcePP
from stapo_pl.objectives.rloo import RLOO
from stapo_pl.objectives.sapo import SAPO
from stapo_pl.objectives.selections import Selection, TopEntropy
from stapo_pl.objectives.stapo import STAPO
from stapo_pl.objectives.token_advantages import TokenAdvantage
from stapo_pl.rollout.rules import DynamicSampling, RolloutRules

__all__ = [
    "CISPO",
    "DAPO",
    "DPPOKL",
    "DPPOTV",
    "DRO",
    "GMPO",
    "GPG",
    "GRPO",
    "GSPO",
    "OPD",
    "OPO",
    "OTB",
    "REINFORCE",
    "RLOO",
    "S2T",
    "SAPO",
    "STAPO",
    "AllRare",
    "ClipCov",
    "Correction",
    "Distillation",
    "DrGRPO",
    "DynamicSampling",
    "Entropy20",
    "HighEntropyRare",
    "IcePop",
    "JustRL",
    "KLCov",
    "MaxRL",
    "Objective",
    "OptimalTokenBaseline",
    "RandomRare",
    "RareSelection",
    "ReinforcePP",
    "RolloutRules",
    "Selection",
    "SequenceIcePop",
    "SequenceMaxK3Mask",
    "SequenceMeanK3Mask",
    "SequenceRatioMask",
    "SequenceTIS",
    "TokenAdvantage",
    "TokenK3Mask",
    "TokenTIS",
    "TopEntropy",
]
