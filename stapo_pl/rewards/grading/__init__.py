"""Judging responses safely: in worker processes, with limits on time and memory.

`grader.py` holds the `Grader`, which hands responses to workers and collects their scores. Its
settings are in `settings.py`. A worker is a process that runs `worker.py`; the grader starts it,
talks to it and kills it by `process.py`.
"""
