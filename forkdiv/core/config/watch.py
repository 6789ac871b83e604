"""How `forkdiv compare --watch` follows a run that is still training. Never part of a result."""

from __future__ import annotations

from pydantic import Field

from forkdiv.core.config.base import Frozen, Seconds


class WatchConfig(Frozen):
    """When `forkdiv compare --watch` looks for new checkpoints, and when it ends."""

    every_s: Seconds = Field(10, description="How often the folder is read.")
    idle_s: Seconds | None = Field(
        None,
        description="It ends after this time without a new checkpoint. null: it waits for the end "
        "of the training, or Ctrl-C.",
    )
    until: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="It ends after the checkpoint of this step or epoch is measured. null: after "
        "the last one, where trainer_state.json says that the training has ended.",
    )
    end_file: str | None = Field(
        None,
        description="It ends once the folder has a file of this name, and what is there is "
        "measured; for example model.safetensors, which a trainer writes at its end.",
    )
