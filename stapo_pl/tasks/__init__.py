"""Tasks: each gives problems to train and validate on, and the reward that judges responses.

`base.py` says what a task is, and each task is one file: `arithmetic.py` and `reasoning_gym.py`
generate problems, `dataset.py` reads them from files or from the hub. For the latter, `tables.py`
finds and reads tables, and `rows.py` makes a problem of each row. `benchmark.py` says how often an
evaluation samples a task's problems. A new task is a new file with a subclass of `Task`, and a
YAML in configs/task/.
"""

from stapo_pl.core.types import Problem
from stapo_pl.tasks.arithmetic import Arithmetic
from stapo_pl.tasks.base import Task
from stapo_pl.tasks.benchmark import Benchmark
from stapo_pl.tasks.dataset import Dataset
from stapo_pl.tasks.reasoning_gym import ReasoningGym

__all__ = ["Arithmetic", "Benchmark", "Dataset", "Problem", "ReasoningGym", "Task"]
