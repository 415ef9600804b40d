"""Words of runs with adapters, and of other adapters."""

from __future__ import annotations

LORA = ("model.lora.rank=4", "model.lora.alpha=8")


OTHERS = {
    "{rank: 4, alpha: 8, target_modules: [q_proj]}": "of another policy, or of other adapters",
    "{rank: 8, alpha: 8}": "adapters are of rank 4, not 8: go on with model.lora.rank=4",
    "{rank: 4, alpha: 9}": r"trained with model\.lora\.alpha=8\.0, not 9\.0",
}
