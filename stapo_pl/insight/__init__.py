"""What a run says of itself, in words and tables that people read.

- `reasons.py` explains why a rollout teaches nothing.
- `completions.py` shows a response with its verdict.
- `table.py` is the table at the end of a run.
"""
