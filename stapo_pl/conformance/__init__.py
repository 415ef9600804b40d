"""This room checks an objective: beside what verl 0.9.1 computed, and for what all of them keep to.

`vectors.py` reads what verl computed, and `likeness.py` compares an objective with it.
`invariance.py` cuts and reorders a mini-batch and silences tokens of it. `checks.py` holds what
both of them need: the loss and the gradient of a mini-batch, and what a check found.
"""

from stapo_pl.conformance.checks import Check
from stapo_pl.conformance.invariance import check_invariance, check_silencing
from stapo_pl.conformance.likeness import check_likeness
from stapo_pl.conformance.vectors import Vector, find_vector, vectors

__all__ = [
    "Check",
    "Vector",
    "check_invariance",
    "check_likeness",
    "check_silencing",
    "find_vector",
    "vectors",
]
