"""The endless stream of prompts of a run."""

from __future__ import annotations

import random
from collections.abc import Sequence

from stapo_pl.core.seeding import seed_for
from stapo_pl.core.types import Prompt


class PromptStream:
    """Repeats all prompts for ever, in a new random order on every pass.

    The seed alone decides which prompt stands at which position, so a resumed run continues with
    the same prompts.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self.prompts, self.seed = prompts, seed
        self._pass, self._order = -1, list[int]()

    def __getitem__(self, position: int) -> Prompt:
        number, place = divmod(position, len(self.prompts))
        # The order of one pass is kept, because neighbouring positions are asked one after another.
        if number != self._pass:
            self._pass, self._order = number, list(range(len(self.prompts)))
            random.Random(seed_for(self.seed, "order", number)).shuffle(self._order)
        prompt = self.prompts[self._order[place]]
        return Prompt(prompt.token_ids, prompt.problem, position)
