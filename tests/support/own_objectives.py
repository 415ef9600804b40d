"""Objectives as a user may write them."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.objectives import GRPO


@dataclass(kw_only=True)
class Sharpens(GRPO):
    """GRPO with a loss that looks at the entropy."""

    def token_loss(self, current, tokens):
        losses_T, metrics = super().token_loss(current, tokens)
        return losses_T + 0.01 * current.entropy_T, metrics
