"""Makes the name of a run from its objective, its task, and the settings that were changed."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stapo_pl.cli.grammar import FIT, expand

# Settings that have no effect on the weights.
SILENT = (
    "data.validation", "data.benchmarks", "data.grading", "data.task.validation_path",
    "data.task.validation_split", "model.max_sampler_gap_mean", "model.max_sampler_gap_kl",
    "model.on_sampler_gap",
)  # fmt: skip
# Settings that change the weights only by rounding. They are not in the name, so a run can be
# resumed with other values of them.
ROUNDING = (
    "model.packing", "model.gradient_checkpointing", "model.compile_layers", "data.prune",
    "data.prune_sample", "data.max_tokens_per_micro_batch",
)  # fmt: skip
# The only settings of the trainer that are in the name. The number of rollouts is not, so that a
# run can be made longer.
_TRAINER = ("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.precision")
_FIRST = "model.objective"  # settings of the objective come first in a name
# The largest numbers of characters of one value, and of all changed settings together.
_LONGEST_VALUE, _LONGEST = 32, 100


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Returns nested settings by dotted keys, without `class_path` and `init_args` in the keys."""
    if not isinstance(value, dict) or not value:
        return {key: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        in_class = name == "init_args" or (name == "class_path" and key)
        found |= flat(inner, key if in_class else f"{key}.{name}".lstrip("."))
    return found


def usual(args: Iterable[str], experiment: str | None, config_dir: Path) -> list[str]:
    """Returns the flags of a command line that choose the experiment, the objective and the task.

    A run with only these flags has the usual settings. The name of a run lists what differs.
    """
    places = [p for name in FIT.naming for p in (FIT.groups[name].file, FIT.groups[name].key)]
    args = [*args]
    named = [word for word in args if word.lstrip("-").partition("=")[0] in places]
    of_experiment = expand([f"experiment={experiment}"], config_dir) if experiment else []
    return named + [word for word in of_experiment if word in args and word not in named]


def run_name(
    parts: Iterable[str | None], seed: int, given: Iterable[str], config: Any, usual: Any
) -> str:
    """Returns a name such as `grpo-arithmetic-kl_coef0.001-seed0`.

    Args:
        parts: the names of the experiment, the objective and the task. None is left out.
        seed: the seed of the run.
        given: the dotted keys that the command line sets.
        config: all settings of the run.
        usual: all settings of a run with only the flags that `usual` returns.
    """
    now, then = flat(config), flat(usual)
    keys = (key for key in {*given} & {*now} if _matters(key) and now[key] != then.get(key, ...))
    # A long name is cut at its end, so the settings of the objective come first.
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
    """Returns whether a dotted key is one of the places, or lies inside one."""
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def _text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and value and all(map(_is_class, value)):
        names = "_".join(item["class_path"].rpartition(".")[2] for item in value)
        return f"_{names}-{_checksum(json.dumps(value))}"  # settings of each class are in it
    is_path = isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*\.[A-Z]\w*", value)
    text = value.rpartition(".")[2] if is_path else value
    text = text if isinstance(text, str) else json.dumps(text)
    text = re.sub(r"[^\w.+-]+", "_", text).strip("_.-")
    if len(text) > _LONGEST_VALUE:
        text = f"{text[-_LONGEST_VALUE + 7 :].strip('_.-')}-{_checksum(str(value))}"
    return f"_{text}"


def _is_class(value: Any) -> bool:
    return isinstance(value, dict) and "class_path" in value


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"[:6]
