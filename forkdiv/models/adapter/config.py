"""The files of an adapter: adapter_config.json and the headers of adapter_model.safetensors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forkdiv.core.errors import UserError, refuse, shortened
from forkdiv.models.files import check_regular, read_json
from forkdiv.models.weights import opened

ADAPTER, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."  # before the name of every tensor that PEFT saves
# older releases of PEFT, and other trainers, leave the name of the adapter in the names of tensors
OWN_NAME = re.compile(r"\.default(?=\.(weight|bias)$|$)")

# Initialisations that leave the base as it is. The others (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ)
# train on a base from which a part was taken away: base and adapter do not add up to the model.
PLAIN_INITS = ("true", "false", "gaussian", "eva", "orthogonal")
KNOWN_FLAGS = ("use_rslora", "use_dora")
# sections of settings that say how an adapter was initialised or computed, not what it adds
HARMLESS = ("loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config")
# fields with which an adapter does more than to add to weights of the base
OTHER_KINDS = (
    "alora_invocation_tokens",
    "layer_replication",
    "megatron_core",
    "target_parameters",
)
MEGATRON_DEFAULT = "megatron.core"


class AdapterConfig(BaseModel):
    """The fields of adapter_config.json that decide what merging gives."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # each release of PEFT adds some

    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: int = Field(8, ge=1)
    lora_alpha: float = Field(8, allow_inf_nan=False)
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    ensure_weight_tying: bool = False
    target_modules: str | list[str] | None = None
    exclude_modules: str | list[str] | None = None
    modules_to_save: list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None

    @property
    def decides(self) -> dict[str, Any]:
        """The fields, without those that only name the base."""
        return self.model_dump(exclude={"base_model_name_or_path", "revision"})


@dataclass(frozen=True)
class Part:
    """A tensor of an adapter: its name in the file, and its shape."""

    key: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder. `parts` are its tensors by name, without the prefix of PEFT."""

    path: Path
    config: AdapterConfig
    parts: dict[str, Part]

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS


def has_adapter(path: Path) -> bool:
    """Whether the folder has an adapter, alone or beside the weights of a model."""
    return (path / ADAPTER).is_file()


def has_weights(path: Path) -> bool:
    """Whether the folder has the weights of a whole model. A config.json alone is none: some
    trainers save that of the base beside an adapter."""
    return (path / "config.json").is_file() and any(path.glob("model*.safetensors"))


def read(path: Path) -> Adapter:
    """Returns the adapter of a folder. Raises UserError for one that is damaged or incomplete, and
    for a kind that cannot be merged into the weights of its base without changing what it does."""
    content = read_json(path / ADAPTER)
    _check_kind(path, content)
    try:
        config = AdapterConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise refuse(
            f"the adapter {path} has no readable {ADAPTER}",
            shortened(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"),
            "the file that save_pretrained of PEFT writes",
            "copy or export the adapter again",
        ) from error
    return Adapter(path, config, _parts(path))


def _check_kind(path: Path, content: dict[str, Any]) -> None:
    kind = content.get("peft_type")
    if kind != "LORA":
        raise _other_kind(path, f"peft_type={kind!r}")
    init = content.get("init_lora_weights", True)
    if str(init).lower() not in PLAIN_INITS:
        raise refuse(
            f"the adapter {path} was trained on a base from which its initial part was taken away",
            f"init_lora_weights={init!r}",
            f"init_lora_weights among {', '.join(PLAIN_INITS)}",
            "save it with save_pretrained(…, path_initial_model_for_weight_conversion=…) of PEFT, "
            "which converts it to a plain LoRA, or merge it with merge_and_unload() and use the "
            "merged folder",
        )
    for name, value in content.items():
        is_flag = name.startswith("use_") and name not in KNOWN_FLAGS
        is_section = name.endswith("_config") and name not in HARMLESS
        is_default = name == "megatron_core" and value == MEGATRON_DEFAULT
        if value and not is_default and (is_flag or is_section or name in OTHER_KINDS):
            raise _other_kind(path, f"peft_type='LORA' with {name}={value!r}")


def _other_kind(path: Path, came: str) -> UserError:
    return refuse(
        f"the adapter {path} is of a kind that forkdiv cannot merge into its base",
        shortened(came),
        "LoRA, also with use_rslora, use_dora, rank_pattern, alpha_pattern, modules_to_save",
        "if PEFT can merge it, call merge_and_unload(), save the model and its tokenizer with "
        "save_pretrained into a new folder, and use that",
    )


def _parts(path: Path) -> dict[str, Part]:
    file = path / WEIGHTS
    check_regular(file)
    if not file.exists():
        pickled = (path / PICKLED).exists()
        raise refuse(
            f"the adapter {path} has no {WEIGHTS}",
            f"only {PICKLED}, a pickle, which may run code when it is read"
            if pickled
            else ", ".join(sorted(file.name for file in path.iterdir())[:8]),
            f"{ADAPTER} and {WEIGHTS}",
            "save it again with save_pretrained of PEFT" if pickled else "copy the adapter again",
        )
    with opened(file) as tensors:
        parts = {
            OWN_NAME.sub("", name.removeprefix(PREFIX)): Part(
                name, tuple(tensors.get_slice(name).get_shape())
            )
            for name in tensors.keys()  # noqa: SIM118 (not a mapping)
        }
    empty = [name for name, part in parts.items() if 0 in part.shape]
    if not parts or empty:
        raise refuse(
            f"the adapter {path} has no weights",
            f"{empty[0]} of shape {list(parts[empty[0]].shape)}" if empty else "no tensors",
            "tensors with values",
            "save it again; with ZeRO-3 or FSDP, gather the parameters before saving",
        )
    return parts
