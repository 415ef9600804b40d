"""Shows silenced tokens to people: where they stand, and what the policy would rather write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

from stapo_pl.core.batches import MiniBatch, Tokens, TokenStatistics
from stapo_pl.insight.rows import Alternatives

_CONTEXT = 24
"""The number of tokens before a silenced one that are shown, and half as many after it."""


@dataclass
class Example:
    """A silenced token, for people."""

    context: str
    """The token between brackets, with the tokens around it."""
    p: float
    """The probability of the token."""
    entropy: float
    """The entropy of the policy at the token, in nats."""
    advantage: float
    ratio: float
    """The probability over that of the policy that made the rollout."""
    instead: str
    """The most likely tokens there with their probabilities, if they are known."""

    @property
    def markdown(self) -> str:
        """The example as Markdown. Text of the model is quoted without any change."""
        figures = (
            f"p {self.p:.2g}, H {self.entropy:.2g} nats, A {self.advantage:.2g}, "
            f"ratio {self.ratio:.3g}"
        )
        instead = f"\n\n{_quote(f'instead: {self.instead}')}" if self.instead else ""
        return f"{figures}\n\n{_quote(self.context)}{instead}"


def silenced_examples(
    mini_batch: MiniBatch,
    tokens: Tokens,
    statistics: TokenStatistics,
    alternatives: Alternatives | None,
    tokenizer: PreTrainedTokenizerBase,
    most: int,
) -> list[Example]:
    """Returns the first silenced tokens of a mini-batch on this rank.

    Args:
        mini_batch: the mini-batch.
        tokens: its tokens that had a pass, with their weights.
        statistics: the statistics of these tokens.
        alternatives: the most likely tokens at rare ones.
        tokenizer: the tokenizer of the policy.
        most: the largest number of examples.
    """
    assert tokens.weights_T is not None and tokens.old_logprobs_T is not None, "of a loss"
    likely = {}
    if alternatives is not None:
        for row, ids, probabilities in zip(*(x.tolist() for x in alternatives), strict=True):
            likely[row] = list(zip(ids, probabilities, strict=True))
    rows = (tokens.weights_T == 0).nonzero()[:most, 0].tolist()
    shown = []
    for row in rows:
        sequence = int(tokens.sequence_T[row])
        trajectory = mini_batch.trajectories[sequence]
        number = int((tokens.sequence_T[:row] == sequence).sum())
        place = next(islice(_taught(trajectory.response_mask), number, None))
        ids = trajectory.completion.token_ids
        before = tokenizer.decode(ids[max(place - _CONTEXT, 0) : place])
        token = tokenizer.decode(ids[place : place + 1])
        after = tokenizer.decode(ids[place + 1 : place + 1 + _CONTEXT // 2])
        shown.append(
            Example(
                context=f"{before}⟦{token}⟧{after}",
                p=statistics.logprobs_T[row].exp().item(),
                entropy=statistics.entropy_T[row].item(),
                advantage=tokens.advantages_T[row].item(),
                ratio=(statistics.logprobs_T[row] - tokens.old_logprobs_T[row]).exp().item(),
                instead=", ".join(
                    f"{tokenizer.decode([i])!r} {q:.2g}" for i, q in likely.get(row, ())
                ),
            )
        )
    return shown


def _taught(mask: list[bool]) -> Iterator[int]:
    return (place for place, teaches in enumerate(mask) if teaches)


def _quote(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
