"""A model folder with the same path at every start: vLLM finds what it compiled by that path."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from transformers import PreTrainedConfig

from stapo_pl.core.errors import ConfigError


def config_folder(config: PreTrainedConfig, cache: Path) -> Path:
    """A folder in `cache` that holds this configuration and nothing else.

    The folder is made if it does not exist. Its name is a hash of its content. It is written under
    another name and renamed at the end, so that it is complete whenever it exists, also when
    several processes start at the same time.

    Raises:
        ConfigError: files cannot be written in `cache`.
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
                    # It is no error if another process has made it meanwhile.
                    if not folder.exists():
                        raise
    except OSError as error:
        raise ConfigError(
            f"{cache}: cannot write there ({error.strerror}): set VLLM_CACHE_ROOT in the "
            "environment to a folder for what vLLM compiles"
        ) from error
    return folder
