"""The objects that one step of a run passes to the next, and the meaning of shape suffixes.

The name of a tensor ends in its shape:

    P  prompts of a rollout            G  responses to one prompt (a group)
    B  sequences (prompt + response)   S  all tokens of B sequences, laid end to end
    L  padded length of a sequence     V  vocabulary
    D  hidden size                     N  new tokens that a response may have
    C  columns of a KV cache, one for each token that a sequence has or will have
    T  response tokens of B sequences, laid end to end. Tokens of the prompt, padding, and tokens
       that the policy did not write are left out.

Losses, selections and metrics see only T, and the number of the sequence that each token belongs
to. They therefore cannot depend on how sequences are padded, packed, ordered or cut into
micro-batches.

This file holds the objects of sampling and grading. `batches.py` holds the objects of training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["judged", "timeout", "error"]


@dataclass
class Problem:
    """A question and its right answer: one row of a task.

    Example:
        >>> Problem(messages=[{"role": "user", "content": "Compute 2+2."}], answer="4").answer
        '4'
    """

    messages: list[dict[str, str]]
    """The conversation so far, as chat messages (`role`, `content`)."""
    answer: str
    """The right answer. The reward compares the response with it."""
    data_source: str = ""
    """The name of the data set that the row comes from."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Other columns of the row that the reward may need."""
    place: str = ""
    """The file and the row, for messages about this problem."""
    solution_dropped: bool = False
    """Whether the row ended with a message of the assistant. Such a message is a solution, and it
    was removed from `messages`."""

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """The question without its answer. Two problems with the same key are duplicates."""
        return tuple((message["role"], message["content"]) for message in self.messages)


@dataclass
class ProblemSet:
    """The problems that were read, and what happened to the other rows."""

    problems: list[Problem]
    """The rows that could be read."""
    bad_rows: list[str] = field(default_factory=list)
    """For each row that could not be read: where it stands, and what is wrong with it."""
    filtered: int = 0
    """The number of rows that the task left out on purpose."""
    held_out: int = 0
    """The number of problems that are kept from training for validation."""


@dataclass
class Response:
    """A completion as text, as the reward sees it."""

    text: str
    """The decoded tokens, without the end token."""
    tokens: int = 0
    """The number of tokens. The end token counts."""
    truncated: bool = False
    """Whether the response ended because it reached the length limit."""


@dataclass
class Score:
    """The verdict of a reward on one response."""

    reward: float
    """The number that advantages are computed from. A group is mixed if its numbers differ."""
    correct: bool
    """Whether the answer is right. Accuracies count this, not the reward."""
    extracted: str | None
    """The answer that was found in the response. None if no answer was found."""
    reason: str = ""
    """Why the verdict is as it is, in a few words."""
    components: dict[str, float] = field(default_factory=dict)
    """The parts of a reward that is a weighted sum of others, before they are weighted."""
    outcome: Outcome = "judged"
    """`judged` is the normal case. `timeout` means that grading took too long, and `error` means
    that grading ended its process."""


@dataclass
class Prompt:
    """A problem as tokens, ready for a sampler."""

    token_ids: list[int]
    """The tokens that the policy continues."""
    problem: Problem
    """The problem that the prompt asks. The reward needs its answer."""
    position: int
    """The number of the prompt in the stream of all prompts of the run. Random numbers depend on
    it."""


@dataclass
class Request:
    """What a sampler is asked for: one completion of one prompt."""

    prompt_ids: list[int]
    """The tokens of the prompt."""
    seed: int
    """The seed of all random choices. The same request to the same weights gives the same
    completion."""


@dataclass
class Decoding:
    """The distribution that completions are drawn from, and their largest length."""

    max_new_tokens: int
    """The largest number of tokens of a completion. The end token counts."""
    temperature: float = 1.0
    """The logits are divided by this number. 0 always takes the most likely token."""
    top_p: float = 1.0
    """Only the most likely tokens that together have at least this probability can be drawn. 1
    keeps all tokens."""
    top_k: int = 0
    """Only the k most likely tokens can be drawn. 0 keeps all tokens."""

    @property
    def name(self) -> str:
        """A short name for folders and for rows of tables, such as `T1-p0.9`."""
        return f"T{self.temperature:g}-p{self.top_p:g}"

    @property
    def is_cut(self) -> bool:
        """Whether top-p or top-k cuts tokens off, so that the policy's distribution is changed."""
        return self.top_p < 1 or self.top_k > 0


@dataclass
class Completion:
    """The token ids that a sampler returns for a request."""

    token_ids: list[int]
    """The tokens that the policy wrote. The end token is the last of them, if there is one."""
    logprobs: list[float]
    """The log-probability of each token under the distribution that it was drawn from. For
    temperature 0 it is taken at temperature 1."""
    truncated: bool
    """True if the length limit ended the completion, and False if an end token did."""


Ended = Callable[[dict[int, Completion]], None]
"""A function that a sampler calls now and then with the completions that have ended since the last
call, by the numbers of their requests."""


@dataclass
class Trajectory:
    """A prompt, its completion, and the score of the response.

    Trajectories of the same prompt are a group, and groups make a rollout.

    Example: the policy continues a prompt of two tokens by three, and its answer is right.

        >>> problem = Problem([{"role": "user", "content": "Compute 2+2."}], answer="4")
        >>> prompt = Prompt([5, 6], problem, position=0)
        >>> completion = Completion([7, 8, 9], logprobs=[-0.5, -0.1, -2.0], truncated=False)
        >>> score = Score(reward=1.0, correct=True, extracted="4")
        >>> trajectory = Trajectory(prompt, completion, "So: 4", 1.0, score, [True] * 3)
        >>> len(trajectory), trajectory.correct
        (5, True)
    """

    prompt: Prompt
    """What the policy was asked."""
    completion: Completion
    """What the policy wrote, as tokens."""
    text: str
    """The text of the response, as the reward saw it."""
    reward: float
    """The shaped reward: the reward of the score plus the overlong punishment, which is 0 or less.
    Advantages are computed from it."""
    score: Score
    """The verdict of the reward on the response."""
    response_mask: list[bool]
    """For each token of the completion, whether it teaches. A token does not teach if the policy
    did not write it, or if the whole response is filtered out."""
    advantage: float = 0.0
    """The advantage of the whole response, which is made from the rewards of its group."""
    sample: int = 0
    """The number of the completion within its group. With the position of the prompt it names the
    trajectory in the run."""
    seed: int = 0
    """The seed that the completion was sampled with."""
    place: int = 0
    """The number of the group among the groups of all ranks that the rollout trains on."""
    curve_weight: float = 1.0
    """The number of tokens of its mini-batch that each of its tokens stands for in curves. It is 0
    if others stand for the trajectory, see `rollout/pruning.py`."""

    @property
    def correct(self) -> bool:
        """Whether the answer is right. The shaping of the reward does not change this."""
        return self.score.correct

    def __len__(self) -> int:
        """Returns the number of tokens of prompt and completion together."""
        return len(self.prompt.token_ids) + len(self.completion.token_ids)


@dataclass
class Rollout:
    """The groups that this rank trains on, and all groups that it sampled to find them.

    A group is the list of the trajectories of one prompt.

    Example: two prompts were sampled. In one of the groups all responses are right, so that group
    teaches nothing and only the other one is trained on. (Words stand for trajectories here.)

        >>> rollout = Rollout(cursor=2)
        >>> rollout.sampled += [["right", "right"], ["right", "wrong"]]
        >>> rollout.groups.append(rollout.sampled[1])
        >>> len(rollout.groups), rollout.cursor
        (1, 2)
    """

    cursor: int
    """The position in the stream of prompts after this rollout. It is the same on all ranks."""
    groups: list[list[Trajectory]] = field(default_factory=list)
    """The groups that are trained on."""
    sampled: list[list[Trajectory]] = field(default_factory=list)
    """All groups that were sampled, whether they are trained on or not."""
    rounds: int = 0
    """The number of times that prompts were sampled until there were enough groups."""
    surplus_groups: int = 0
    """The number of mixed groups that were not needed, on all ranks together."""
    discarded_groups: int = 0
    """The number of groups that dynamic sampling discarded because all rewards in them are equal,
    on all ranks together."""
