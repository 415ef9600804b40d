"""The memory plan: how much memory each rank of a run will hold, before the run starts.

`plan.py` adds up what is held in each phase of a run and makes the table that `--plan` prints. What
a sampler is offered also comes from it. `footprint.py` measures what the forward and backward
passes and the optimizer allocate, by running them on tensors without data. Both take plain values;
`training/planning.py` reads these from the module and the data module of a run.
"""
