"""This room turns the prompts of a task into a rollout, and cuts the rollout into mini-batches.

Open `source.py` first: it collects one rollout after another. `collector.py` samples completions,
has them graded and computes advantages (`advantages.py`). `rounds.py` repeats this until enough
groups are mixed, and `rules.py` holds the settings of that. `sets.py` and `prompts.py` make prompts
from problems, and `stream.py` puts them in order. `sizes.py` checks the sizes of batches, and
`batching.py` makes the batches. `metrics.py` holds the curves of a rollout, `shaping.py` the
punishment of overlong responses, and `limits.py` the checks of lengths.
"""
