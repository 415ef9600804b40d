"""Makes a model folder, which transformers and vLLM can load, of a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
import yaml
from transformers import GenerationConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.endings import end_tokens
from stapo_pl.policy.loading import load_policy, load_tokenizer
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy, shipped_policy

# Names of the policy's parameters in a checkpoint begin with the module's attribute.
_PREFIX = "policy."


def export(checkpoint: Path, out: Path, overwrite: bool = False) -> None:
    """Writes the policy of a checkpoint, sharded or not, as a Hugging Face model folder.

    The folder is written under another name and renamed at the end, so that it is complete
    whenever it exists.

    Args:
        checkpoint: the checkpoint, in the `checkpoints` folder of its run.
        out: the folder to make.
        overwrite: whether an existing folder may be replaced.

    Raises:
        ConfigError: there is no such checkpoint, it is of another model than the run's config.yaml
            names, or the folder exists.
    """
    run = checkpoint.absolute().parents[1]
    if not checkpoint.exists():
        raise ConfigError(f"{checkpoint}: no such checkpoint")
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{checkpoint}: not in the checkpoints folder of a run")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists: give another folder, or --overwrite to replace it")
    config = yaml.safe_load((run / "config.yaml").read_text())
    path = config["model"]["path"] or str(shipped_policy())
    policy = load_policy(path)
    if lora := config["model"].get("lora"):
        adapted = load_policy(path, prepare=LoRA(**lora).add_to)
        step = load_weights(adapted, checkpoint)
        for (name, merged), (own, parameter) in zip(
            adapted.named_weights(), policy.model.named_parameters(), strict=True
        ):
            assert name == own, f"{name} is not {own}"
            parameter.data.copy_(merged)
    else:
        step = load_weights(policy, checkpoint)
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    policy.model.save_pretrained(unfinished)
    tokenizer, generation = load_tokenizer(path), _generation_config(path, policy)
    tokenizer.save_pretrained(unfinished)
    stop_token_ids = config["data"].get("stop_token_ids") or ()
    ids = end_tokens(path, tokenizer, policy.model.config, stop_token_ids).ids
    generation.eos_token_id = ids[0] if len(ids) == 1 else list(ids)
    generation.save_pretrained(unfinished)
    (unfinished / "README.md").write_text(model_card(config, run, step))
    if out.exists():
        shutil.rmtree(out)
    unfinished.rename(out)


def load_weights(policy: Policy, checkpoint: Path) -> int:
    """Loads a checkpoint's weights into a policy, in one process.

    Returns:
        The number of optimizer steps that the checkpoint has had.

    Raises:
        ConfigError: the checkpoint is of another model.
    """
    if checkpoint.is_dir():
        state = {f"{_PREFIX}{name}": tensor for name, tensor in policy.state_dict().items()}
        dcp.load({"state_dict": state}, checkpoint_id=checkpoint, no_dist=True)
        return torch.load(checkpoint / "meta.pt", weights_only=False)["global_step"]
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    state = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in saved["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    if state.keys() != policy.state_dict().keys():
        raise ConfigError(f"{checkpoint}: not of the model that the run's config.yaml names")
    policy.load_state_dict(state, strict=False)  # with adapters, a checkpoint holds them alone
    return saved["global_step"]


def model_card(config: dict[str, Any], run: Path, step: int) -> str:
    """The text of the model folder's README.md."""
    objective = config["model"]["objective"]
    task = config["data"]["task"]
    path = config["model"]["path"]
    name = "The policy that comes with stapo_pl" if path is None else f"`{path}`"
    settings = yaml.safe_dump({"objective": objective, "data": config["data"]}, sort_keys=False)
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        f"tags: [reinforcement-learning, {objective['class_path'].rpartition('.')[2].lower()}]\n"
        "---\n\n"
        f"# {run.parent.name}\n\n"
        f"{name}, trained with {objective['class_path'].rpartition('.')[2]} on "
        f"{task['class_path'].rpartition('.')[2]} for {step} optimizer steps "
        f"(seed {config['seed_everything']}, run {run.parent.name}/{run.name}) by stapo_pl.\n\n"
        f"```yaml\n{settings}```\n"
    )


def _generation_config(path: str, policy: Policy) -> GenerationConfig:
    """The generation settings of the model that the run started from."""
    try:
        return GenerationConfig.from_pretrained(path)
    except OSError:  # a model need not have one
        return policy.model.generation_config
