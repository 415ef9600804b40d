"""This room turns numbers of a run into words and tables that people read.

`reasons.py` explains why a rollout teaches nothing. `completions.py` shows a response with its
score. `table.py` makes the table at the end of a run.

`curves.py` reads the curves of a run back. `compare.py` puts runs side by side, and `drawing.py`
draws them. `evaluations.py` compares two evaluations. `inspector/` makes one HTML file of a run, in
which each recorded token can be looked at.
"""
