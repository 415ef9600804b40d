"""A parser that answers a mistake in one line."""

from __future__ import annotations

import re
import sys
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

# How jsonargparse passes on the error of a class that may also be left out.
_REFUSAL = re.compile(r".*Errors: - (.*?) - Expected a <class 'NoneType'>")


class HelpfulParser(LightningArgumentParser):
    """Reports a mistake in one line."""

    def add_class_arguments(self, theclass: type, nested_key: str | None = None, **kwargs: Any):
        """All but what a command settles itself: the trainer's `run` is a section of its own."""
        if nested_key == "trainer":
            kwargs["skip"] = {*kwargs.get("skip", ()), "run"}
        return super().add_class_arguments(theclass, nested_key, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)


def refusal(error: ValueError) -> str | None:
    """What a class that may also be left out said of its settings, as jsonargparse passes it on."""
    found = _REFUSAL.match(" ".join(str(error).split()))
    return found[1] if found else None
