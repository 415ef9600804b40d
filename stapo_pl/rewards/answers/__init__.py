"""Finds the answer in a response, and tells whether two answers mean the same.

In these files `given` is the answer that was found in a response, and `answer` or `gold` is the
problem's answer. `boxed.py` finds the last box. `notation.py` and `typography.py` rewrite an answer
into LaTeX that math-verify reads. The other files each know one kind of answer: numbers
(`numeric.py`), named values (`assignments.py`), names (`names.py`), inequalities, plus-minus signs
and lists. `equality.py` compares expressions.
"""
