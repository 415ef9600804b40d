"""Judging responses safely: in worker processes, with limits on time and memory.

`grader.py` holds the `Grader`, whose settings are in `settings.py`. `judging.py` hands responses to
workers as they come in, and collects their scores, which `verdicts.py` checks. A worker is a
process that runs `worker.py`. `pool.py` keeps the workers, and `process.py` starts each of them,
talks to it and kills it.
"""
