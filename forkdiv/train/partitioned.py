"""Loads a model for ZeRO-3: every rank keeps its part of each weight, and none a whole copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forkdiv.models.loading import check_loadable, load_model


def load_partitioned(path: Path, dtype: Any, deepspeed_config: dict[str, Any]) -> Any:
    """Returns the model of `load_model`, with its weights partitioned over the ranks as
    `deepspeed_config` (stage 3) says. All ranks must call it, in an initialized process group.

    Each weight is created empty and partitioned at once. Then rank 0 reads the tensors from the
    files, which it maps into its memory without copying them, and sends each to the others.

    Raises UserError as `load_model` does.
    """
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    # For ZeRO-3, transformers reports no tensors that are unexpected or of another shape, and an
    # error of rank 0 alone would leave the other ranks waiting.
    check_loadable(path)
    # transformers keeps a weak reference to it, and partitions while it exists. Not longer than
    # needed: it would also change how checkpoints are saved.
    config = HfDeepSpeedConfig(deepspeed_config)
    try:
        return load_model(path, dtype)
    finally:
        unset_hf_deepspeed_config()
        del config
