"""The policy: a language model that answers with statistics of its tokens instead of logits.

`model.py` holds the `Policy`. `statistics.py` computes the statistics from hidden states, and
`attention.py` has the kernels that the model attends by. `loading.py` makes a policy of a model
folder or hub name, and `streaming.py` reads its weights one by one for sharded runs.
`preparation.py` says what is done to a policy before it is used, and `lora.py` adds adapters.
`precision.py` knows which types passes may compute in, `endings.py` which tokens end a response,
and `export.py` turns a checkpoint into a model folder.
"""
