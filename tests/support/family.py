"""The table of objectives, as the tests that compare them with others say it is.

`cd tests && python -m support.family` prints it, for stapo_pl/README.md.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from stapo_pl.objectives import Objective, OptimalTokenBaseline
from support.objectives import build_objective
from support.places import CONFIGS, OBJECTIVES
from support.trl import PAIRS
from support.verl import ADVANTAGES, LOSSES

HEAD = """| `objective=` | paper | file | lines | equals verl | equals TRL | any cut | silenced |
|---|---|---|---|---|---|---|---|"""


def table() -> str:
    return "\n".join([HEAD, *(_row(name) for name in OBJECTIVES)])


def _row(name: str) -> str:
    objective = build_objective(name)
    file = Path(inspect.getfile(type(objective)))
    text = (CONFIGS / "objective" / f"{name}.yaml").read_text()
    paper = re.search(r"\((\d{4}\.\d{5})", text)
    linked = f"[{paper[1]}](https://arxiv.org/abs/{paper[1]})" if paper else ""
    lines = len(file.read_text().splitlines())
    equal = ", ".join(_equal_to_verl(objective)) or "-"
    trl = "loss" if any(type(ours) is type(objective) for ours, _ in PAIRS.values()) else "-"
    cells = [f"`{name}`", linked, f"[{file.name}](objectives/{file.name})", lines, equal, trl]
    # The tests of cuts, ranks and silencing are run for every YAML, so that none can fail here.
    return f"| {' | '.join(map(str, [*cells, 'yes', 'yes']))} |"


def _equal_to_verl(objective: Objective) -> list[str]:
    """What of an objective is compared with numbers of verl."""
    defined = next(cls for cls in type(objective).__mro__ if "token_loss" in vars(cls))
    found = ["loss"] if any(isinstance(one, defined) for one in LOSSES.values()) else []
    if objective.token_advantage is None:
        compared = objective.rollout.advantage in ADVANTAGES.values()
    else:
        compared = isinstance(objective.token_advantage, OptimalTokenBaseline)
    return [*found, "advantage"] if compared else found


if __name__ == "__main__":
    print(table())
