"""This room turns numbers of a run into words and tables that people read.

`reasons.py` explains why a rollout teaches nothing. `completions.py` shows a response with its
score. `table.py` makes the table at the end of a run. `inspector/` makes one HTML file of a run, in
which each recorded token can be looked at.
"""
