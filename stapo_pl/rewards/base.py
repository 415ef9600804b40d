"""What a reward says about one response."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Score:
    """The verdict on one response."""

    reward: float
    """The scalar that advantages are made of."""
    correct: bool
    """Whether the answer is right, whatever the reward: decides which groups are mixed."""
    extracted: str | None
    """The answer that was found in the response, None if there was none."""
