"""A parser that reports a mistake in one line, without a screen of usage."""

from __future__ import annotations

import re
import sys
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

# If a setting may be a class or null, jsonargparse puts the error of the class into this text.
_REFUSAL = re.compile(r".*Errors: - (.*?) - Expected a <class 'NoneType'>")


class HelpfulParser(LightningArgumentParser):
    """Lightning's parser, which reports a mistake in one line."""

    def add_class_arguments(self, theclass: type, nested_key: str | None = None, **kwargs: Any):
        """Leaves out the trainer's argument `run`, because `run` is a key of its own here."""
        if nested_key == "trainer":
            kwargs["skip"] = {*kwargs.get("skip", ()), "run"}
        return super().add_class_arguments(theclass, nested_key, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)


def refusal(error: ValueError) -> str | None:
    """Returns the message of a class that refused its settings, or None for other errors."""
    found = _REFUSAL.match(" ".join(str(error).split()))
    return found[1] if found else None
