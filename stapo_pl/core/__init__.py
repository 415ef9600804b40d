"""This room holds what every other room uses. It imports no other room.

Open `types.py` for the objects that sampling and grading pass on: a problem becomes a prompt, a
completion, a score and a trajectory, and trajectories make a rollout. Open `batches.py` for the
objects of training: a rollout is cut into mini-batches and micro-batches of response tokens.
`tensors.py` holds the mathematics on tokens, and `means.py` averages the curves. `world.py` sums
over all ranks, and `seeding.py` makes every random number. `errors.py` holds the errors that users
see, and `progress.py` makes the progress bars.
"""
