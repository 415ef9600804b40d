"""A model folder that is the same at every start, as vLLM keeps what it compiles by its path."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from transformers import PreTrainedConfig

from stapo_pl.core.errors import ConfigError


def config_folder(config: PreTrainedConfig, cache: Path) -> Path:
    """The folder in `cache` that holds this configuration alone; made if it is not there.

    It is named by what is in it, written beside its place and renamed: whole or not there, whoever
    starts at the same time.

    Raises:
        ConfigError: the cache cannot be written to.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as unfinished:
            made = Path(unfinished) / "made"
            config.save_pretrained(made)
            content = b"".join(file.read_bytes() for file in sorted(made.iterdir()))
            folder = cache / hashlib.sha256(content).hexdigest()[:16]
            if not folder.exists():
                try:
                    made.rename(folder)
                except OSError:
                    # Only another start that made it meanwhile is no fault.
                    if not folder.exists():
                        raise
    except OSError as error:
        raise ConfigError(
            f"{cache}: cannot write there ({error.strerror}): set VLLM_CACHE_ROOT in the "
            "environment to a folder for what vLLM compiles"
        ) from error
    return folder
