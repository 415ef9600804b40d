"""The carriers that pass between the steps of a run, and the legend of shape suffixes.

A tensor's name ends in its shape:

    P  prompts of a rollout            G  responses of a prompt (its group)
    B  sequences (prompt + response)   S  all tokens of B sequences, laid end to end
    L  padded length of a sequence     V  vocabulary
    D  hidden size
    T  response tokens of B sequences, laid end to end: no prompt, no padding, and no token that
       the policy did not write

Losses, selections and metrics see only T and the sequence that each token belongs to, so how
sequences were padded, packed, ordered or cut into micro-batches cannot change them.

The carriers of sampling and grading are here; those of training are in `batches.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["judged", "timeout", "error"]


@dataclass
class Problem:
    """One row of a task.

    Example:
        >>> Problem(messages=[{"role": "user", "content": "Compute 2+2."}], answer="4").answer
        '4'
    """

    messages: list[dict[str, str]]
    """The conversation so far, as chat messages (`role`, `content`)."""
    answer: str
    """The ground truth that the reward compares with."""
    data_source: str = ""
    """Where the row comes from."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What else the reward may need of the row, such as a generator's own record of it."""
    place: str = ""
    """File and row, for messages about it."""
    solution_dropped: bool = False
    """Whether the row's messages ended with the assistant's, which are not asked."""

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """What is asked: equal for duplicates, whatever their answers."""
        return tuple((message["role"], message["content"]) for message in self.messages)


@dataclass
class ProblemSet:
    """The problems that were read, and an account of the rows that did not become one."""

    problems: list[Problem]
    bad_rows: list[str] = field(default_factory=list)
    """Place and reason of each row that is no problem."""
    filtered: int = 0
    """Rows that the task left out on purpose."""


@dataclass
class Response:
    """What the policy wrote."""

    text: str
    """Decoded, without special tokens."""
    tokens: int = 0
    """Its length, end-of-sequence token included."""
    truncated: bool = False
    """Whether the length limit ended it."""


@dataclass
class Score:
    """The verdict on one response."""

    reward: float
    """The scalar that advantages are made of; decides which groups are mixed."""
    correct: bool
    """Whether the answer is right, whatever the reward: what accuracies count."""
    extracted: str | None
    """The answer that was found in the response, None if there was none."""
    reason: str = ""
    """Why, in a few words."""
    components: dict[str, float] = field(default_factory=dict)
    """The parts that a sum of rewards is made of, before their weights."""
    outcome: Outcome = "judged"
    """Whether it was judged; or took too long, or killed the process that judged it."""


@dataclass
class Prompt:
    """A problem, ready for a sampler."""

    token_ids: list[int]
    """The rendered prompt."""
    problem: Problem
    """Where it came from; the task judges responses against it."""
    position: int
    """Number in the stream of all prompts of the run; every random choice is keyed by it."""


@dataclass
class Request:
    """One response to sample."""

    prompt_ids: list[int]
    seed: int
    """All of the response's randomness; equal requests to equal weights give equal responses."""


@dataclass
class Decoding:
    """The distribution that responses are drawn from."""

    max_new_tokens: int
    """Longest response, its end token included."""
    temperature: float = 1.0
    """Logits are divided by it; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus: the most likely tokens that together have at least this probability. 1 keeps all."""
    top_k: int = 0
    """Only the k most likely tokens. 0 keeps all."""

    @property
    def name(self) -> str:
        """Short, for folders and rows of tables: `T1-p0.9`."""
        return f"T{self.temperature:g}-p{self.top_p:g}"

    @property
    def is_cut(self) -> bool:
        """Whether some tokens cannot be drawn, so that it is not the policy's distribution."""
        return self.top_p < 1 or self.top_k > 0


@dataclass
class Completion:
    """What a sampler gives back for a request."""

    token_ids: list[int]
    """The response, with its end token if it has one."""
    logprobs: list[float]
    """Log-probabilities under the distribution drawn from (greedy: at temperature 1)."""
    truncated: bool
    """True if the length limit ended it, not an end token."""


@dataclass
class Trajectory:
    """One scored response: what a rollout consists of."""

    prompt: Prompt
    completion: Completion
    text: str
    """The response as the reward saw it: decoded, without its end token."""
    reward: float
    """The shaped reward, from which advantages are made: the score's, less a punishment."""
    score: Score
    """The verdict that it was shaped from."""
    response_mask: list[bool]
    """Of each response token, whether it teaches: the policy wrote it, and its response is not
    filtered out."""
    advantage: float = 0.0
    """Of the whole response, made from the rewards of its group."""
    place: int = 0
    """Number of its group among the groups of all ranks that the rollout trains on."""

    @property
    def correct(self) -> bool:
        """Whether the answer is right, whatever the reward was shaped to."""
        return self.score.correct

    def __len__(self) -> int:
        """Tokens of prompt and response."""
        return len(self.prompt.token_ids) + len(self.completion.token_ids)


@dataclass
class Rollout:
    """The groups that this rank trains on, and what was sampled and left out on the way.

    Example: two prompts were sampled, and one of the groups teaches nothing.

        >>> rollout = Rollout(cursor=2)
        >>> rollout.sampled += [["right", "right"], ["right", "wrong"]]
        >>> rollout.groups.append(rollout.sampled[1])
        >>> len(rollout.groups), rollout.cursor
        (1, 2)
    """

    cursor: int
    """Position in the prompt stream after this rollout; the same on all ranks."""
    groups: list[list[Trajectory]] = field(default_factory=list)
    """The groups that are trained on."""
    sampled: list[list[Trajectory]] = field(default_factory=list)
    """Every group that was sampled, whether it is trained on or not."""
    rounds: int = 0
    """How often prompts were sampled until there were enough groups."""
    surplus_groups: int = 0
    """Mixed groups beyond the number needed, on all ranks."""
    discarded_groups: int = 0
    """Groups that dynamic sampling discarded because their rewards are equal, on all ranks."""
