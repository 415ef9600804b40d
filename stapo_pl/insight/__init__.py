"""This room turns numbers of a run into words and tables that people read.

`reasons.py` explains why a rollout teaches nothing. `completions.py` shows a response with its
score. `table.py` makes the table at the end of a run.

`effects.py` computes what each token does to the loss, the gradient and the entropy. `classes.py`
adds this up over the paper's eight classes, and `figures.py` over other groups. `shadows.py` does
the same for another objective, and `offline.py` does it from records. `records.py` says what the
files of records hold, `rows.py` makes their rows, and `recorder.py` keeps them within a budget.
`examples.py` shows silenced tokens as text.

`curves.py` reads the curves of a run back. `compare.py` puts runs side by side, and `drawing.py`
draws them. `evaluations.py` compares two evaluations. `inspector/` makes one HTML file of a run, in
which each recorded token can be looked at.
"""
