"""The policies that are scored and never updated: the reference policy and the teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from stapo_pl.core.errors import ConfigError
from stapo_pl.objectives.base import Objective
from stapo_pl.policy.loading import check_tokenizer, check_vocabulary, load_config
from stapo_pl.policy.model import Policy


class FrozenPolicies:
    """Holds these policies where Lightning does not see them, so that no checkpoint has them.

    Args:
        objective: the objective, which says which of them it needs.
        reference_path: the model folder or hub name of the reference policy. None if it needs no
            weights of its own.
        teacher_path: that of the teacher, if there is one.

    Raises:
        ConfigError: the objective needs a teacher and there is none, or the reverse.
    """

    def __init__(
        self, objective: Objective, reference_path: str | None, teacher_path: str | None
    ) -> None:
        if objective.needs_teacher and teacher_path is None:
            raise ConfigError(
                "model.teacher_path is null: this objective learns from a teacher; name the folder "
                "or the hub name of a model with the policy's tokenizer"
            )
        if teacher_path is not None and not objective.needs_teacher:
            raise ConfigError(
                f"model.teacher_path={teacher_path}: nothing would learn from it; take "
                "objective=opd, or objective.token_advantage=Distillation"
            )
        self.reference_path = reference_path if objective.needs_reference else None
        self.teacher_path = teacher_path
        self.reference: Policy | None = None
        self.teacher: Policy | None = None

    @property
    def teacher_config(self) -> PreTrainedConfig | None:
        """The configuration of the teacher's model, if there is a teacher."""
        path = self.teacher_path
        return None if path is None else load_config(path, "model.teacher_path")

    def load(
        self,
        load: Callable[[str, str], Policy],
        device: torch.device | None,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Loads those that are needed and not yet there.

        Args:
            load: loads a policy, given its path and the setting that names it.
            device: the device that they are moved to. None leaves them where `load` put them.
            config: the configuration of the policy that is trained.
            tokenizer: the tokenizer of that policy.

        Raises:
            ConfigError: a path is wrong, or the tokens of a model are not those of the policy.
        """
        if self.reference_path is not None and self.reference is None:
            check_vocabulary(config, self.reference_path, "model.reference_path")
            self.reference = load(self.reference_path, "model.reference_path").eval().to(device)
        if self.teacher_path is not None and self.teacher is None:
            check_tokenizer(tokenizer, self.teacher_path, "model.teacher_path")
            self.teacher = load(self.teacher_path, "model.teacher_path").eval().to(device)
