"""The verifier: a second model that judges the responses that the reward calls wrong."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.samplers import Sampler

# The marks around the three texts and the verdicts are those of CompassVerifier (2508.03686). The
# instructions are in our own words.
_PROMPT = """\
Compare the final answer of a response with the reference answer to the question, and decide whether
they are the same. Do not solve the question yourself: the reference is right. Answers that differ
only in how they are written are the same.

Reply with one letter:
A: CORRECT, the response's final answer is the reference answer
B: INCORRECT, it is another one
C: INVALID, the response is cut off, repeats itself, refuses or has no final answer

<Original Question Begin>:
{question}
<Original Question End>
<Standard Answer Begin>:
{gold_answer}
<Standard Answer End>
<Candidate's Answer Begin>:
{llm_response}
<Candidate's Answer End>
Judgement:
"""
_PLACES = ("{question}", "{gold_answer}", "{llm_response}")
_WORDS = {"CORRECT": "A", "INCORRECT": "B", "INVALID": "C"}
# A letter counts only if it stands alone at the end of a line or before a sign such as ":". In a
# sentence, "A" may be an article, and "B" may be the name of a point.
_VERDICT = re.compile(
    r"\b(CORRECT|INCORRECT|INVALID|[ABC](?=[ \t]*(?:[-:.,)*\]]|$)))\b", re.MULTILINE
)


@dataclass
class Verifier:
    """A model that judges responses. It has a sampler of its own.

    Args:
        path: the model folder or hub name, such as opencompass/CompassVerifier-3B.
        engine: the sampler. None chooses one in the same way as for the policy.
        prompt: a file with another prompt. It must contain {question}, {gold_answer} and
            {llm_response}. If a model was trained on an exact wording, give it the prompt of its
            model card.
        max_new_tokens: the largest number of tokens of a judgement.
        max_response_characters: the largest number of characters of a response that are shown. If a
            response is longer, its end is shown, because the answer stands there.

    Raises:
        ConfigError: the file of the prompt does not exist or lacks one of the three, or a number is
            out of range.
    """

    path: str
    engine: Sampler | None = None
    prompt: str | None = None
    max_new_tokens: int = 2048
    max_response_characters: int = 16_384

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_response_characters"):
            if getattr(self, name) < 1:
                raise ConfigError(f"verifier.{name} must be at least 1, got {getattr(self, name)}")
        if self.prompt is not None and not Path(self.prompt).is_file():
            raise ConfigError(f"verifier.prompt={self.prompt}: no such file")
        self._template = _PROMPT if self.prompt is None else Path(self.prompt).read_text()
        for place in _PLACES:
            if place not in self._template:
                raise ConfigError(f"verifier.prompt={self.prompt}: it has no {place}")

    @property
    def checksum(self) -> int:
        """A checksum of everything in a prompt except the problem and the response."""
        return zlib.crc32(f"{self.max_response_characters} {self._template}".encode())

    def cuts(self, response: Response) -> bool:
        """Returns whether only the end of the response is shown."""
        return len(response.text) > self.max_response_characters

    def ask(self, problem: Problem, response: Response) -> Problem:
        """Returns a problem that asks the verifier for its judgement."""
        parts = (
            problem.messages[-1]["content"],
            problem.answer,
            response.text[-self.max_response_characters :],
        )
        # All three are filled in at once. One after another, a response that contains the text
        # "{question}" would be changed.
        filling = dict(zip(_PLACES, parts, strict=True))
        pattern = "|".join(map(re.escape, _PLACES))
        content = re.sub(pattern, lambda match: filling[match[0]], self._template)
        return Problem([{"role": "user", "content": content}], "")


def read_verdict(reply: Response) -> str:
    """Returns the verdict of a reply: A (correct), B (incorrect) or C (invalid).

    The reply may give the letter or the word. If part of it stands in a box, only that part counts.
    The verdict is C if the reply gives no verdict, or several, or is truncated.

    Example:
        >>> [read_verdict(Response(r)) for r in ("B: INCORRECT", "**A**", "Well", "A, no: B")]
        ['B', 'A', 'C', 'C']
    """
    text = last_boxed(reply.text) or reply.text
    found = {_WORDS.get(word, word) for word in _VERDICT.findall(text)}
    return found.pop() if len(found) == 1 and not reply.truncated else "C"
