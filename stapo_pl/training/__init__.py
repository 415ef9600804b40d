"""This room trains: it connects rollouts, policy and objective with Lightning.

Open `loop.py` first: it shows one rollout and its updates from top to bottom. `module.py` is the
LightningModule (policy, reference policy and objective), `datamodule.py` the LightningDataModule
(rollouts), and `trainer.py` the trainer with the defaults of `defaults.py`. `wiring.py` connects
them, and `events.py` tells callbacks what happens. `scoring.py` makes the passes before an update,
also those of the reference and the teacher, which `frozen.py` holds. `planning.py` and
`workload.py` tell before a run how much memory and time it takes.
`start.py` settles where a run starts: `runs.py` finds its folder and the checkpoint. `loggers.py`
writes curves, and `strategy.py` spreads the policy over several GPUs. `private.py` holds all that
we use of Lightning's private parts. The folder `callbacks/` holds the sampler, the progress bar,
checkpoints and logs.
"""
