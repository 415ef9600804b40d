"""Prepares a policy once, after its model is made and before it is used."""

from __future__ import annotations

from dataclasses import dataclass

from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy


@dataclass
class Preparation:
    """Says how a policy is trained and how its passes run.

    Args:
        lora: adapters that are trained instead of the policy's weights. None trains the weights.
        packing: whether sequences are laid end to end instead of padded.
        gradient_checkpointing: whether activations are computed again in the backward pass.
        compile_layers: whether decoder layers are compiled.
    """

    lora: LoRA | None = None
    packing: bool = False
    gradient_checkpointing: bool = False
    compile_layers: bool = False

    def trained(self, policy: Policy) -> None:
        """Prepares a policy that is updated."""
        if self.lora is not None:
            self.lora.add_to(policy)
        self._passes(policy)
        if self.gradient_checkpointing:
            policy.checkpoint_gradients()

    def frozen(self, policy: Policy) -> None:
        """Prepares a policy that is not updated, such as the reference."""
        policy.requires_grad_(False)
        self._passes(policy)

    def _passes(self, policy: Policy) -> None:
        if self.packing:
            policy.pack()
        if self.compile_layers:
            policy.compile_layers()
