"""The number format of a study's model where the user did not set one: the checkpoint's own.

It is resolved before anything is hashed, since it decides results. The device does not: a study has
the same results on another machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.models.cpu import lacks_bfloat16
from forkdiv.models.files import read_json

# as the config.json of a checkpoint names it: the formats of sampling, and of training. Training in
# float16 would need its loss scaled.
SAMPLED = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
TRAINED = SAMPLED | {"float16": "bfloat16"}


def resolve(study: StudyConfig) -> tuple[StudyConfig, list[str]]:
    """Returns the study with decoder.dtype and sft.dtype of its base where they were not set, and
    what was changed. A base that cannot be read changes nothing: it is refused later, with the
    reason."""
    own = dtype_of(study.base) if study.base else None
    if own not in SAMPLED:
        return study, []
    update: dict[str, Any] = {}
    decoders = (study.decoder, *study.decoders.values())
    is_set = any("dtype" in decoder.model_fields_set for decoder in decoders)
    if not is_set and study.decoder.dtype != SAMPLED[own]:
        given = {"dtype": SAMPLED[own]}
        update["decoder"] = study.decoder.model_copy(update=given)
        update["decoders"] = {
            name: decoder.model_copy(update=given) for name, decoder in study.decoders.items()
        }
    if "dtype" not in study.sft.model_fields_set and study.sft.dtype != TRAINED[own]:
        update["sft"] = study.sft.model_copy(update={"dtype": TRAINED[own]})
    named = [name for name in ("decoder", "sft") if name in update]
    return study.model_copy(update=update), [f"{n}.dtype={update[n].dtype}" for n in named]


def hint(study: StudyConfig) -> str:
    """Returns a hint for a CPU that is slow in the study's number format; otherwise ""."""
    if study.place.device != "cpu" or study.decoder.dtype != "bfloat16" or not lacks_bfloat16():
        return ""
    return (
        "; this CPU has no instructions for bfloat16 and may be faster with decoder.dtype=float32 "
        "sft.dtype=float32"
    )


def dtype_of(checkpoint: Path) -> str | None:
    """Returns the dtype that the config.json of a checkpoint names; None if it names none."""
    try:
        config = read_json(checkpoint / "config.json")
    except UserError:
        return None
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        dtype = part.get("dtype") or part.get("torch_dtype")
        if isinstance(dtype, str):
            return dtype.removeprefix("torch.")
    return None
