"""Makes a model folder, which transformers and vLLM can load, of a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
import yaml
from transformers import GenerationConfig

from stapo_pl.core.errors import ConfigError
from stapo_pl.policy.endings import end_tokens
from stapo_pl.policy.loading import load_policy, load_tokenizer
from stapo_pl.policy.lora import LoRA
from stapo_pl.policy.model import Policy, shipped_policy
from stapo_pl.policy.saved import PREFIX, read


def export(checkpoint: Path, out: Path, overwrite: bool = False) -> None:
    """Writes the policy of a checkpoint, sharded or not, as a Hugging Face model folder.

    The folder is written under another name and renamed at the end, so that it is complete
    whenever it exists.

    Args:
        checkpoint: the checkpoint.
        out: the folder to make.
        overwrite: whether an existing folder may be replaced.

    Raises:
        ConfigError: there is no such checkpoint, another version of this package wrote it, its
            model folder now holds another model, or the folder to make exists.
    """
    if not checkpoint.exists():
        raise ConfigError(f"{checkpoint}: no such checkpoint")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists: give another folder, or --overwrite to replace it")
    saved = read(checkpoint, checkpoint)
    path, lora = saved["policy"]["path"] or str(shipped_policy()), saved["policy"]["lora"]
    policy = load_policy(path)
    if lora is None:
        _load_weights(policy, saved, checkpoint, path)
    else:
        adapted = load_policy(path, prepare=LoRA(**lora).add_to)
        _load_weights(adapted, saved, checkpoint, path)
        for (name, merged), (own, parameter) in zip(
            adapted.named_weights(), policy.model.named_parameters(), strict=True
        ):
            assert name == own, f"{name} is not {own}"
            parameter.data.copy_(merged)
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    policy.model.save_pretrained(unfinished)
    tokenizer, generation = load_tokenizer(path), _generation_config(path, policy)
    tokenizer.save_pretrained(unfinished)
    stop_token_ids = saved["policy"]["stop_token_ids"]
    ids = end_tokens(path, tokenizer, policy.model.config, stop_token_ids).ids
    generation.eos_token_id = ids[0] if len(ids) == 1 else list(ids)
    generation.save_pretrained(unfinished)
    card = model_card(path, checkpoint, saved["global_step"])
    (unfinished / "README.md").write_text(card)
    if out.exists():
        shutil.rmtree(out)
    unfinished.rename(out)


def _load_weights(policy: Policy, saved: dict[str, Any], checkpoint: Path, path: str) -> None:
    """Loads a checkpoint's weights into a policy, in one process.

    Raises:
        ConfigError: the checkpoint is of another model.
    """
    if checkpoint.is_dir():
        state = {f"{PREFIX}{name}": tensor for name, tensor in policy.state_dict().items()}
        dcp.load({"state_dict": state}, checkpoint_id=checkpoint, no_dist=True)
        return
    state = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in saved["state_dict"].items()
        if name.startswith(PREFIX)
    }
    own = {name: tensor.shape for name, tensor in policy.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != own:
        raise ConfigError(f"{checkpoint}: not a checkpoint of the model in {path}")
    policy.load_state_dict(state, strict=False)  # with adapters, a checkpoint holds them alone


def model_card(path: str, checkpoint: Path, step: int) -> str:
    """Returns the text of the model folder's README.md.

    Args:
        path: the model folder or hub name that the run started from.
        checkpoint: the checkpoint. If there is a config.yaml in its run folder, it says what the
            policy was trained with.
        step: the number of optimizer steps that the policy has had.
    """
    name = "The policy that comes with stapo_pl" if path == str(shipped_policy()) else f"`{path}`"
    folder = checkpoint.absolute().parent
    run = folder.parent if folder.name == "checkpoints" else folder
    tags, what, seed, settings = ["reinforcement-learning"], "", "", ""
    if (file := run / "config.yaml").is_file():
        config = yaml.safe_load(file.read_text())
        chosen = {"objective": config["model"]["objective"], "data": config["data"]}
        objective, task = (
            part["class_path"].rpartition(".")[2]
            for part in (chosen["objective"], chosen["data"]["task"])
        )
        tags.append(objective.lower())
        what, seed = f" with {objective} on {task}", f"seed {config['seed_everything']}, "
        settings = f"\n```yaml\n{yaml.safe_dump(chosen, sort_keys=False)}```\n"
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        f"tags: [{', '.join(tags)}]\n---\n\n# {run.parent.name}\n\n"
        f"{name}, trained{what} for {step} optimizer steps "
        f"({seed}run {run.parent.name}/{run.name}) by stapo_pl.\n{settings}"
    )


def _generation_config(path: str, policy: Policy) -> GenerationConfig:
    """The generation settings of the model that the run started from."""
    try:
        return GenerationConfig.from_pretrained(path)
    except OSError:  # a model need not have one
        return policy.model.generation_config
