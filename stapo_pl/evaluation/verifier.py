"""A second opinion: a model judges what the rule rejects."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response
from stapo_pl.rewards.answers.boxed import last_boxed
from stapo_pl.samplers import Sampler

# In CompassVerifier's format (2508.03686): its marks around the three texts, its verdicts. The
# instructions are our own words.
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
# A letter counts where it stands as a verdict does, not as an article or a name in a sentence.
_VERDICT = re.compile(
    r"\b(CORRECT|INCORRECT|INVALID|[ABC](?=[ \t]*(?:[-:.,)*\]]|$)))\b", re.MULTILINE
)


@dataclass
class Verifier:
    """A model that judges responses, through a sampler of its own.

    Args:
        path: model folder or hub name, such as opencompass/CompassVerifier-3B.
        engine: what samples; None is chosen as for the policy.
        prompt: file of another prompt, with the places {question}, {gold_answer} and
            {llm_response}: for a model that was trained on an exact wording, give it that of its
            model card.
        max_new_tokens: of a judgement.
        max_response_characters: of a longer response only its end is shown, where its answer is.

    Raises:
        ConfigError: the prompt is not there, or lacks a place; or a number is out of range.
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
        """Of what makes its prompts, besides problem and response."""
        return zlib.crc32(f"{self.max_response_characters} {self._template}".encode())

    def cuts(self, response: Response) -> bool:
        """Whether only the end of the response is shown."""
        return len(response.text) > self.max_response_characters

    def ask(self, problem: Problem, response: Response) -> Problem:
        """The judgement as a problem for the verifier."""
        parts = (
            problem.messages[-1]["content"],
            problem.answer,
            response.text[-self.max_response_characters :],
        )
        # One pass, so that a place's name in a response stays what it is.
        filling = dict(zip(_PLACES, parts, strict=True))
        pattern = "|".join(map(re.escape, _PLACES))
        content = re.sub(pattern, lambda match: filling[match[0]], self._template)
        return Problem([{"role": "user", "content": content}], "")


def read_verdict(reply: Response) -> str:
    """A, B or C, whichever the reply says, as a letter or as a word; one in a box goes before.

    C, invalid, where it says none of them, more than one, or does not come to an end.

    Example:
        >>> [read_verdict(Response(r)) for r in ("B: INCORRECT", "**A**", "Well", "A, no: B")]
        ['B', 'A', 'C', 'C']
    """
    text = last_boxed(reply.text) or reply.text
    found = {_WORDS.get(word, word) for word in _VERDICT.findall(text)}
    return found.pop() if len(found) == 1 and not reply.truncated else "C"
