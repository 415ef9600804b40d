"""How much a token moves the entropy of the policy: the covariance of advantage and log p."""

from __future__ import annotations

from torch import Tensor

from stapo_pl.core.batches import Tokens, TokenStatistics
from stapo_pl.core.errors import ConfigError
from stapo_pl.core.world import World


def covariances(tokens: Tokens, statistics: TokenStatistics, world: World) -> tuple[Tensor, int]:
    """Returns `(A - mean A) (log p - mean log p)` of each token, [T] in float64, and their number.

    The mean of these values is the covariance that lowers the entropy in a policy gradient step
    (2505.22617). Means and number are over all tokens of the mini-batch on all ranks, which must
    call this together.
    """
    columns = [tokens.advantages_T.double(), statistics.logprobs_T.double()]
    count = int(world.sum(columns[0].new_tensor(len(tokens))))
    advantages_T, logprobs_T = (x - world.sum(x.sum()) / max(count, 1) for x in columns)
    return advantages_T * logprobs_T, count


def share_of(ratio: float, count: int) -> int:
    """Returns how many tokens a share of all tokens is. It is at least 1."""
    return max(1, int(ratio * count))


def check_ratio(ratio: float) -> None:
    """Raises ConfigError if the share does not lie between 0 and 1."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"ratio must lie above 0 and be at most 1, got {ratio}")
