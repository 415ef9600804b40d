"""What a checkpoint says of its policy, and checks that a run resumes with the same policy."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy, shipped_policy

FORMAT = 2
"""The number of the format of checkpoints. It changes when old ones cannot be resumed any more."""
PREFIX = "policy."
"""The names of the policy's parameters in a checkpoint begin with this."""


def description(path: str, lora: LoRA | None, stop_token_ids: list[int]) -> dict[str, Any]:
    """Returns what a checkpoint says of its policy, so that it can be exported by itself.

    Args:
        path: the model folder or hub name that the run started from.
        lora: the adapters of the run.
        stop_token_ids: the tokens that ended responses besides those that the model names.
    """
    # The policy of the package may lie in another folder where the checkpoint is exported.
    is_shipped = path == str(shipped_policy())
    return {
        "format": FORMAT,
        "path": None if is_shipped else path,
        "lora": lora and asdict(lora),
        "stop_token_ids": stop_token_ids,
    }


def read(path: Path, name: object) -> dict[str, Any]:
    """Returns the contents of a checkpoint. Weights are read when they are used.

    Args:
        path: the checkpoint. If it is sharded, it is a folder, and its weights are missing here.
        name: the name of the checkpoint, for errors.

    Raises:
        ConfigError: it is not a checkpoint, or another version of this package wrote it in another
            format.
    """
    file = path / "meta.pt" if path.is_dir() else path
    is_archive = file.is_file() and zipfile.is_zipfile(file)
    saved = (
        torch.load(file, map_location="cpu", mmap=True, weights_only=False) if is_archive else None
    )
    if not (isinstance(saved, dict) and "global_step" in saved):
        raise ConfigError(f"{name}: not a checkpoint")
    if (number := saved.get("policy", {}).get("format", 1)) != FORMAT:
        raise ConfigError(
            f"{name}: the checkpoint has format {number}, and this version of stapo_pl reads "
            f"format {FORMAT} only; resume and export it with the version that wrote it"
        )
    return saved


def check_alpha(saved: Mapping[str, Any] | None, lora: LoRA | None) -> None:
    """Checks that a checkpoint's adapters were trained with the alpha of this run's adapters.

    Args:
        saved: the settings of the checkpoint's adapters.
        lora: the adapters of the run.

    Raises:
        ConfigError: they were not.
    """
    if saved is not None and lora is not None and saved["alpha"] != lora.alpha:
        raise ConfigError(
            "ckpt_path: the checkpoint's adapters were trained with "
            f"model.lora.alpha={saved['alpha']}, not {lora.alpha}"
        )


def check_shapes(shapes: Mapping[str, torch.Size], policy: Policy) -> None:
    """Checks that a checkpoint's parameters have the names and shapes of a policy's.

    Args:
        shapes: the shapes of all tensors of the checkpoint by their names.
        policy: the policy.

    Raises:
        ConfigError: they differ.
    """
    saved = {name: shape for name, shape in shapes.items() if name.startswith(PREFIX)}
    own = {f"{PREFIX}{name}": p.shape for name, p in policy.state_dict().items()}
    ranks = [
        {shape[0] for name, shape in found.items() if ".lora_A." in name} for found in (saved, own)
    ]
    if saved.keys() == own.keys() and ranks[0] != ranks[1]:
        was, now = (", ".join(map(str, sorted(found))) for found in ranks)
        raise ConfigError(
            f"ckpt_path: the checkpoint's adapters are of rank {was}, not {now}: go on with "
            f"model.lora.rank={was}"
        )
    if saved != own:
        raise ConfigError(
            "ckpt_path: the checkpoint is of another policy, or of other adapters, than "
            "model.path and model.lora say"
        )
