"""A parser that reports a mistake in one line, without a screen of usage."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

# If a setting may be a class or something else and the class refuses its arguments, jsonargparse
# raises an error that begins with this text. The error of the class is its cause.
_NO_ALTERNATIVE = "Does not validate against any of the Union subtypes"

# Arguments of the trainer that are keys at the top of the config tree.
OWN_KEYS = ("run", "insight")


class HelpfulParser(LightningArgumentParser):
    """Lightning's parser, which reports a mistake in one line."""

    def add_class_arguments(self, theclass: type, nested_key: str | None = None, **kwargs: Any):
        """Leaves out arguments of the trainer that are keys of their own here."""
        if nested_key == "trainer":
            kwargs["skip"] = {*kwargs.get("skip", ()), *OWN_KEYS}
        return super().add_class_arguments(theclass, nested_key, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)


def refusal(error: BaseException) -> str | None:
    """Returns the message of a class that refused its settings, or None for other errors."""
    found: BaseException | None = error
    while found is not None and str(found).startswith(_NO_ALTERNATIVE):
        found = found.__cause__
    return None if found is None or found is error else " ".join(str(found).split())
