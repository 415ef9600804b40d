"""Shows a trajectory to people: the question, the response, and the verdict."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from stapo_pl.core.types import Trajectory


def as_markdown(trajectory: Trajectory, tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a trajectory as Markdown. Question and response are quoted without any change."""
    verdict = "right" if trajectory.correct else "wrong"
    completion = trajectory.completion
    # The text is the response as it was judged. It has no end token, so the token is named apart.
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
