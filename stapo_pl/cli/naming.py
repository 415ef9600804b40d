"""The name of a run, which tells it from others of its objective and task."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stapo_pl.cli.grammar import FIT, expand

# Settings without a say in the weights.
SILENT = (
    "data.validation", "data.benchmarks", "data.grading", "data.task.validation_path",
    "data.task.validation_split", "model.max_sampler_gap_mean", "model.max_sampler_gap_kl",
    "model.on_sampler_gap",
)  # fmt: skip
# Settings that change them by rounding alone: a run that changes them is found again by its name.
ROUNDING = ("model.packing", "model.gradient_checkpointing", "model.compile_layers")
# Of the trainer, only these have one. The number of rollouts is left out: a run can be made longer.
_TRAINER = ("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.precision")
_FIRST = "model.objective"  # whose settings come first in a name
_LONGEST_VALUE, _LONGEST = 32, 100  # characters of a value's text, of all differences


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys, those of a class beside its name."""
    if not isinstance(value, dict) or not value:
        return {key: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        in_class = name == "init_args" or (name == "class_path" and key)
        found |= flat(inner, key if in_class else f"{key}.{name}".lstrip("."))
    return found


def usual(args: Iterable[str], experiment: str | None, config_dir: Path) -> list[str]:
    """Of a command line, what gives a run its name: experiment, objective and task."""
    places = [p for name in FIT.naming for p in (FIT.groups[name].file, FIT.groups[name].key)]
    args = [*args]
    named = [word for word in args if word.lstrip("-").partition("=")[0] in places]
    of_experiment = expand([f"experiment={experiment}"], config_dir) if experiment else []
    return named + [word for word in of_experiment if word in args and word not in named]


def run_name(
    parts: Iterable[str | None], seed: int, given: Iterable[str], config: Any, usual: Any
) -> str:
    """`grpo-arithmetic-kl_coef0.001-seed0`: what was set otherwise than usual, in short.

    Args:
        parts: names of the experiment, the objective and the task; None has none.
        seed: of the run.
        given: dotted keys of what was set.
        config: all settings.
        usual: all settings without those, with the files of the same objective and task.
    """
    now, then = flat(config), flat(usual)
    keys = (key for key in {*given} & {*now} if _matters(key) and now[key] != then.get(key, ...))
    # What may be cut off comes last.
    order = sorted(keys, key=lambda key: (not key.startswith(f"{_FIRST}."), key))
    differ = {key: now[key] for key in order}
    ends = [key.rpartition(".")[2] for key in differ]
    words = []
    for key, value in differ.items():
        end = key.rpartition(".")[2]
        short = end if ends.count(end) == 1 else ".".join(key.split(".")[-2:])
        words.append(short + _text(value))
    name = "-".join(words)
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST].rpartition('-')[0]}-{_checksum(name)}"
    return "-".join(filter(None, (*parts, name, f"seed{seed}"))).lower()


def _matters(key: str) -> bool:
    is_silent = is_in(key, SILENT + ROUNDING)
    return is_in(key, _TRAINER) or (is_in(key, ("model", "data")) and not is_silent)


def is_in(key: str, places: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of the places, or inside one."""
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def _text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    is_path = isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*\.[A-Z]\w*", value)
    text = value.rpartition(".")[2] if is_path else value
    text = text if isinstance(text, str) else json.dumps(text)
    text = re.sub(r"[^\w.+-]+", "_", text).strip("_.-")
    if len(text) > _LONGEST_VALUE:
        text = f"{text[-_LONGEST_VALUE + 7 :].strip('_.-')}-{_checksum(str(value))}"
    return f"_{text}"


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"[:6]
