"""Objectives as configs/objective ships them."""

from __future__ import annotations

import yaml
from jsonargparse import ArgumentParser

from stapo_pl.objectives import Objective
from support.places import CONFIGS


def build_objective(name: str, **overrides) -> Objective:
    """The objective of configs/objective/<name>.yaml; `tau_p` is its selection's."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    config = yaml.safe_load((CONFIGS / "objective" / f"{name}.yaml").read_text())
    arguments = config.setdefault("init_args", {})
    if "tau_p" in overrides:
        arguments["selection"]["init_args"]["tau_p"] = overrides.pop("tau_p")
    arguments |= overrides
    return parser.instantiate(parser.parse_object({"objective": config})).objective
