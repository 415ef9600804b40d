"""The text of single tokens, and of the words around a place in a completion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

# How many tokens are shown before and after a rare one.
_BEFORE, _AFTER = 32, 8


class Pieces:
    """Gives each token that the page shows a number, under which the page finds its text.

    Args:
        tokenizer: the tokenizer of the run. None shows tokens by their numbers in the vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._tokenizer = tokenizer
        self._numbers: dict[int, int] = {}
        # Some tokenizers leave out the space of the first token, so each one follows another.
        self._anchor = [] if tokenizer is None else tokenizer.encode("a", add_special_tokens=False)
        self._anchor_text = self._decode(self._anchor)

    def numbers(self, ids: Iterable[int]) -> list[int]:
        """Returns the numbers of tokens on the page."""
        return [self._numbers.setdefault(int(id), len(self._numbers)) for id in ids]

    def texts(self) -> list[str]:
        """Returns the text of each token that has a number, in the order of the numbers."""
        return [self.text(id) for id in self._numbers]

    def ids(self) -> list[int]:
        """Returns the tokens that have numbers, in their order."""
        return list(self._numbers)

    def text(self, id: int) -> str:
        """Returns the text of a token. Bytes that are part of a letter are shown as bytes."""
        if self._tokenizer is None:
            return f"⟨{id}⟩"
        text = self._decode([*self._anchor, id]).removeprefix(self._anchor_text)
        if "\ufffd" in text:
            return f"⟨{self._tokenizer.convert_ids_to_tokens(id)}⟩"
        return text or f"⟨{id}⟩"

    def around(self, ids: Sequence[int], place: int) -> tuple[str, str]:
        """Returns the text before and after a place in a completion, cut with an ellipsis."""
        before, after = ids[max(place - _BEFORE, 0) : place], ids[place + 1 : place + 1 + _AFTER]
        head = "…" if place > _BEFORE else ""
        tail = "…" if place + 1 + _AFTER < len(ids) else ""
        return head + self._run(before), self._run(after) + tail

    def _run(self, ids: Sequence[int]) -> str:
        if self._tokenizer is None:
            return "".join(map(self.text, ids))
        return self._decode([*self._anchor, *ids]).removeprefix(self._anchor_text)

    def _decode(self, ids: Sequence[int]) -> str:
        if self._tokenizer is None:
            return ""
        text = self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        assert isinstance(text, str), "one list of tokens has one text"
        return text
