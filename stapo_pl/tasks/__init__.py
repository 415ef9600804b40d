"""One file a task: its problems, and the reward that judges them."""

from stapo_pl.tasks.arithmetic import Arithmetic
from stapo_pl.tasks.base import Problem, Task
from stapo_pl.tasks.verl_parquet import VerlParquet

__all__ = ["Arithmetic", "Problem", "Task", "VerlParquet"]
