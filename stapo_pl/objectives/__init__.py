"""One file an objective; selections, corrections and the KL penalty combine with any of them."""

from stapo_pl.objectives.base import Objective
from stapo_pl.objectives.corrections import Correction, IcePop, SequenceTIS, TokenTIS
from stapo_pl.objectives.dapo import DAPO
from stapo_pl.objectives.dr_grpo import DrGRPO
from stapo_pl.objectives.entropy20 import Entropy20
from stapo_pl.objectives.grpo import GRPO
from stapo_pl.objectives.justrl import JustRL
from stapo_pl.objectives.selections import S2T, Selection, TopEntropy
from stapo_pl.objectives.stapo import STAPO
from stapo_pl.objectives.token_advantages import TokenAdvantage
from stapo_pl.rollout.rules import DynamicSampling, RolloutRules

__all__ = [
    "DAPO",
    "GRPO",
    "S2T",
    "STAPO",
    "Correction",
    "DrGRPO",
    "DynamicSampling",
    "Entropy20",
    "IcePop",
    "JustRL",
    "Objective",
    "RolloutRules",
    "Selection",
    "SequenceTIS",
    "TokenAdvantage",
    "TokenTIS",
    "TopEntropy",
]
