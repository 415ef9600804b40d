"""One file a task: its problems, and the reward that judges them."""

from stapo_pl.core.types import Problem
from stapo_pl.tasks.arithmetic import Arithmetic
from stapo_pl.tasks.base import Task
from stapo_pl.tasks.benchmark import Benchmark
from stapo_pl.tasks.dataset import Dataset
from stapo_pl.tasks.reasoning_gym import ReasoningGym

__all__ = ["Arithmetic", "Benchmark", "Dataset", "Problem", "ReasoningGym", "Task"]
