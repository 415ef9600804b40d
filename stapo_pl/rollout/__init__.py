"""This room turns the prompts of a task into a rollout, and cuts the rollout into mini-batches.

Open `source.py` first: it collects one rollout after another. `collector.py` samples completions
and has them graded. `rounds.py` repeats this until enough groups are mixed, and `rules.py` holds
the settings of that. `advantages.py` then gives each response its advantage. `sets.py` and
`prompts.py` make prompts from problems, and `stream.py` puts them in order. `sizes.py` checks the
sizes of batches, and `batching.py` makes the batches. `pruning.py` leaves out what teaches nothing,
and `dealing.py` gives ranks equal shares. `metrics.py` holds the curves of a rollout, `shaping.py`
the punishment of overlong responses, and `limits.py` the checks of lengths.
"""
