"""Rewards that misbehave, as a user's or a response may make them; worker processes import it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stapo_pl.core.types import Problem
from stapo_pl.rewards import Response, Reward, Score

_KEPT: list[bytearray] = []
_SCORES = {
    "numpy": Score(np.float64(0.5), np.True_, None),
    "extracted": Score(1.0, True, 4),
    "none": Score(None, True, None),
    "word": Score("0.5", True, None),
    "undecided": Score(1.0, None, None),
    "yes": Score(1.0, "yes", None),
    "huge": Score(1e20, True, None),
    "text": "right",
    "unpicklable": Score(1.0, True, re.search("a", "a")),
}


class Obedient(Reward):
    """Does what the response says; correct if it says its problem's answer."""

    worst = -1.0

    def score(self, response: Response, problem: Problem) -> Score:
        match response.text.split():
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["spin"]:
                while True:
                    pass
            case ["big", "number"]:
                9**9**8  # one step of the interpreter: no signal handler gets a word in
            case ["keep", gib]:
                _KEPT.append(bytearray(int(float(gib) * 2**30)))
            case ["start", seconds]:
                subprocess.run(["sleep", seconds])
            case ["score", what]:
                return _SCORES[what]
            case ["die"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["nan"]:
                return Score(float("nan"), False, None)
            case ["exit"]:
                sys.exit("enough")
            case ["raise"]:
                raise LookupError("no such thing")
            case ["die", "once", file] if not Path(file).exists():
                Path(file).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        correct = response.text == problem.answer
        return Score(float(correct), correct, response.text)


@dataclass
class Unprepared(Obedient):
    """Cannot start."""

    def prepare(self) -> None:
        raise ImportError("no module named sympathy")


class InPlace(Obedient):
    """Runs where it is called."""

    bounded = True
