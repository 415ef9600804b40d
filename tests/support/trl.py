"""TRL's own loss of given completions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, PreTrainedModel

from stapo_pl.core.batches import Tokens
from stapo_pl.core.types import Trajectory
from stapo_pl.objectives import CISPO, DAPO, GRPO, GSPO, SAPO, DrGRPO
from stapo_pl.policy.model import shipped_policy

# Our objectives, and the settings of TRL's GRPOConfig that they equal.
SEQUENCE = {"loss_type": "grpo", "importance_sampling_level": "sequence"}
PAIRS = {
    "grpo": (GRPO(), {"loss_type": "grpo"}),
    "dr_grpo": (DrGRPO(), {"loss_type": "dr_grpo"}),
    "dapo": (DAPO(), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "bnpo": (GRPO(aggregation="token-mean"), {"loss_type": "bnpo"}),
    "cispo": (CISPO(clip_low=1.0, clip_high=0.28), {"loss_type": "cispo", "epsilon_high": 1.28}),
    "sapo": (SAPO(tau_negative=1.125), {"loss_type": "sapo", "sapo_temperature_neg": 1.125}),
    "gspo": (GSPO(), {**SEQUENCE, "epsilon": 3e-4, "epsilon_high": 4e-4}),
    "gspo, wide": (GSPO(clip_low=0.02, clip_high=0.03),
                   {**SEQUENCE, "epsilon": 0.02, "epsilon_high": 0.03}),
}  # fmt: skip


def make_trainer(folder: Path, model: PreTrainedModel, longest: int, **settings):
    """A GRPOTrainer that has trained nothing.

    Args:
        folder: where it may write.
        model: what it would train.
        longest: the largest possible number of tokens of a response.
        settings: of its GRPOConfig.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_list([{"prompt": "?"}]),
        processing_class=AutoTokenizer.from_pretrained(shipped_policy(), padding_side="left"),
        args=GRPOConfig(
            output_dir=str(folder), use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False, max_completion_length=longest, **settings,
        ),
    )  # fmt: skip


def make_inputs(trajectories: Sequence[Trajectory], tokens: Tokens) -> dict[str, Tensor]:
    """What TRL's trainer makes of completions: prompts padded on the left, responses on the right.

    Args:
        trajectories: the prompts, completions and advantages.
        tokens: the tokens of the responses, with old log-probabilities.
    """
    prompts = [torch.tensor(t.prompt.token_ids) for t in trajectories]
    responses = [torch.tensor(t.completion.token_ids) for t in trajectories]
    old_logprobs = tokens.old_logprobs_T.split([len(ids) for ids in responses])

    def padded(rows: Sequence[Tensor], side: str = "right") -> Tensor:
        return pad_sequence([*rows], batch_first=True, padding_side=side)

    return {
        "prompt_ids": padded(prompts, "left"),
        "prompt_mask": padded([torch.ones_like(ids) for ids in prompts], "left"),
        "completion_ids": padded(responses),
        "completion_mask": padded([torch.ones_like(ids) for ids in responses]),
        "old_per_token_logps": padded(old_logprobs),
        "advantages": torch.tensor([t.advantage for t in trajectories], dtype=torch.float64),
    }


def loss_of(trainer, model: nn.Module, inputs: dict[str, Tensor], micro_batches: int) -> Tensor:
    """The loss of an optimizer step: the sum of those of consecutive micro-batches.

    Args:
        trainer: the GRPOTrainer, whose `compute_loss` is called as its training loop calls it.
        model: the model that is differentiated.
        inputs: of all completions of the step, which are all that was sampled together.
        micro_batches: the number of parts, which have equally many completions.
    """
    trainer.current_gradient_accumulation_steps = micro_batches  # its training loop sets it
    trainer.args.steps_per_generation = micro_batches
    count = {"num_items_in_batch": inputs["completion_mask"].sum()}
    pieces = zip(*(x.chunk(micro_batches) for x in inputs.values()), strict=True)
    parts = [dict(zip(inputs, piece, strict=True)) for piece in pieces]
    return torch.stack([trainer.compute_loss(model, part | count) for part in parts]).sum()


class InFloat64(nn.Module):
    """A model that answers TRL's trainer as its fused head does, which computes in float32."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, fused_lm_head: bool
    ) -> SimpleNamespace:
        # TRL's positions count the padding. Rotary embeddings would do with that, but they are in
        # float32, and round differently at other positions.
        places = (attention_mask.cumsum(1) - 1).clamp(min=0)
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, position_ids=places)
        logprobs = output.logits[:, :-1].log_softmax(-1)
        chosen = logprobs.gather(-1, labels[:, 1:, None].clamp(min=0))[..., 0]
        # The trainer takes the entropy for its log alone.
        return SimpleNamespace(log_probs=chosen, entropy=torch.zeros_like(chosen))
