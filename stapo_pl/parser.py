"""A parser that answers a mistake in one line, with the nearest known name."""

from __future__ import annotations

import inspect
import re
import sys
from typing import ClassVar

from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer

from stapo_pl.objectives import Correction, Objective, Selection
from stapo_pl.overrides import FIT, Grammar, nearest
from stapo_pl.rewards import Reward
from stapo_pl.samplers import Sampler
from stapo_pl.tasks import Benchmark, Task

# How jsonargparse words an unknown key, a value that is no choice, any other wrong value, a class
# that does not exist, and a setting of a class where none is chosen yet.
_UNKNOWN_KEY = re.compile(
    r"Option '([\w.]+)' is not accepted|does not accept option '([\w.]+)'|unrecognized arguments: "
    r"--([\w.]+)"
)
_NO_CHOICE = re.compile(r'Parser key "([\w.]+)": .*Literal\[(.*?)\].* [Vv]alue: (\S+)$')
_WRONG_VALUE = re.compile(r'Parser key "([\w.]+)": (.*)')
_NO_CLASS = re.compile(r'Parser key "([\w.]+)": .*Expected a dot import path string: (\S+)')
_NO_CLASS_YET = re.compile(r'Parser key "([\w.]+)": .*NestedArg\(key=\'(\w+)\'')

# How it passes on the error of a class that may also be left out.
_REFUSAL = re.compile(r".*Errors: - (.*?) - Expected a <class 'NoneType'>")


class HelpfulParser(LightningArgumentParser):
    """Reports a mistake in one line, with the nearest known name."""

    words: ClassVar[list[str]] = []
    """The command line, to name keys as they were given."""
    grammar: ClassVar[Grammar] = FIT
    """Of it."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        print(f"error: {self._explain(' '.join(message.split()))}", file=sys.stderr)
        sys.exit(2)

    def _explain(self, message: str) -> str:
        classes = _known_classes()
        if unknown := _UNKNOWN_KEY.search(message):
            key = next(filter(None, unknown.groups()))
            if key in self.grammar.groups:
                place = self.grammar.groups[key].key
                return f"{key}: give it as a word, {key}=NAME; in a YAML it is {place}"
            known = {action.dest for action in self._actions}
            known |= {name for cls in classes for name in inspect.signature(cls).parameters}
            return f"{self._as_given(key)}: no such key{nearest(key, known)}"
        if wrong := _NO_CLASS_YET.search(message):
            key = self._as_given(".".join(wrong.groups()))
            place = key.rpartition(".")[0]
            return f"{key}: choose what has it first, as in {place}=NAME {key}=..."
        if wrong := _NO_CHOICE.search(message):
            key, choices, value = wrong.groups()
            choices = re.findall(r"'([^']*)'", choices)
            word = f"{self._as_given(key)}={value}"
            return f"{word}: expected one of {', '.join(choices)}{nearest(value, choices)}"
        if wrong := _NO_CLASS.search(message):
            key, name = wrong.groups()
            names = {cls.__name__ for cls in classes}
            return f"{self._as_given(key)}={name}: no such class{nearest(name, names)}"
        if wrong := _WRONG_VALUE.fullmatch(message):
            key, reason = wrong.groups()
            return f"{self._as_given(key)}: {reason}"
        return message

    def _as_given(self, key: str) -> str:
        """The whole key of a word of the command line that ends in `key`."""
        given = (word.lstrip("-").split("=")[0] for word in self.words)
        return self._short(next((w for w in given if f".{w}".endswith(f".{key}")), key))

    def _short(self, key: str) -> str:
        """`objective.tau_p` for `model.objective.tau_p`, as it was given."""
        # The longest first: a reward's keys are also the task's.
        for name, group in sorted(self.grammar.groups.items(), key=lambda g: -len(g[1].key)):
            if f"{key}.".startswith(f"{group.key}."):
                return name + key.removeprefix(group.key)
        return key


def refusal(error: ValueError) -> str | None:
    """What a class that may also be left out said of its settings, as jsonargparse passes it on."""
    found = _REFUSAL.match(" ".join(str(error).split()))
    return found and found[1]


def _known_classes() -> set[type]:
    """All classes that a config can name."""
    found = set()
    classes = [Objective, Selection, Correction, Task, Benchmark, Reward, Sampler, Optimizer]
    while classes:
        cls = classes.pop()
        found.add(cls)
        classes += cls.__subclasses__()
    return found
