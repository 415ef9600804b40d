"""This room measures a policy: in validations during training, and in evaluations on benchmarks.

`figures.py` defines every figure once, such as avg@k, pass@k and maj@k. `validation.py` holds the
validation during training. Open `run.py` for an evaluation from prompts to report: it samples
(`sampling.py`, `model.py`), grades, can ask a second model (`verifier.py`), and prints tables
(`report.py`). `records.py` holds the files that an evaluation keeps, and `paper.py` the results
that the paper reports.
"""
