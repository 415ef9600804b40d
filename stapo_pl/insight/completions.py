"""A response as people read it: what was asked, what was written, and the verdict."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from stapo_pl.core.types import Trajectory


def as_markdown(trajectory: Trajectory, tokenizer: PreTrainedTokenizerBase) -> str:
    """Markdown of a trajectory; prompt and response are quoted as they are."""
    verdict = "right" if trajectory.correct else "wrong"
    completion = trajectory.completion
    # The text is the one that was judged, which is without the end token.
    end = tokenizer.convert_ids_to_tokens(completion.token_ids[-1])
    ending = "truncated" if completion.truncated else f"ended by `{end}`"
    problem = trajectory.prompt.problem
    prompt = problem.messages[-1]["content"]
    return (
        f"**reward {trajectory.reward:.3g}** ({verdict}, {ending}; answer {problem.answer})\n\n"
        f"{_quote(prompt)}\n\n{_quote(trajectory.text)}"
    )


def _quote(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
