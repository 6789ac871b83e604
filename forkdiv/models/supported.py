"""Refuses checkpoints that forkdiv cannot load, by their files alone: adapters without a model,
quantised weights, and models or tokenizers that need code of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forkdiv.core.errors import refuse, shortened
from forkdiv.models.files import read_json
from forkdiv.models.shape import layer_count

MAX_LAYERS = 1000
ADAPTER = "adapter_config.json"
MERGE = (
    "`forkdiv interpolate --base BASE --tuned ADAPTER 1` writes the base with the adapter merged in"
)
REMOTE_CODE = "auto_map"  # names Python files of the checkpoint that transformers would run
WITH_REMOTE_CODE = ("config.json", "tokenizer_config.json", "generation_config.json")


def check_supported(path: Path) -> None:
    """Raises UserError for a quantised model, a model with code of its own, and an architecture
    that transformers does not have."""
    check_no_remote_code(path)
    config = read_json(path / "config.json")
    check_layers(path, config)
    _check_not_quantised(path, config)
    _check_known(path, config)


def check_layers(path: Path | str, config: Mapping[str, Any]) -> None:
    """Raises UserError for an impossible number of layers, which would take for ever to build."""
    layers = layer_count(config)
    if layers is not None and layers > MAX_LAYERS:
        raise refuse(
            f"the config of {path} has an impossible number of layers",
            shortened(str(layers)) if layers < 10**30 else "more than 10^30",
            f"at most {MAX_LAYERS:,}",
            "correct config.json",
        )


def check_no_remote_code(path: Path) -> None:
    """Raises UserError if transformers would need Python code of the checkpoint to load it."""
    for name in WITH_REMOTE_CODE:
        content = read_json(path / name, optional=True)
        text_config = content.get("text_config")
        for part in (content, text_config if isinstance(text_config, dict) else {}):
            if part.get(REMOTE_CODE):
                raise refuse(
                    f"the checkpoint {path} brings its own Python code, which forkdiv never runs",
                    f"{REMOTE_CODE} in {name}",
                    "architectures and tokenizers of the installed transformers",
                    f"if transformers supports model_type={content.get('model_type')!r} itself, "
                    f"remove {REMOTE_CODE} from {name} in a copy; otherwise use another checkpoint",
                )


def check_no_adapter(path: Path, beside_a_model: bool = False) -> None:
    """Raises UserError for a folder with a LoRA adapter, unless it lies `beside_a_model`, where
    transformers would apply it and vLLM would not."""
    if not (path / ADAPTER).exists():
        return
    base = read_json(path / ADAPTER).get("base_model_name_or_path") or "unknown"
    if (path / "config.json").exists() and any(path.glob("model*.safetensors")):
        if beside_a_model:
            return
        raise refuse(
            f"the checkpoint {path} has an adapter beside its weights, so that it is unclear "
            "which model it is",
            f"{ADAPTER} (of the base {base}) and model weights",
            "a folder of one model",
            f"remove {ADAPTER} and adapter_model.safetensors from a copy if the weights are "
            f"merged already; {MERGE}",
        )
    raise refuse(
        f"the checkpoint {path} is an adapter without a model",
        f"{ADAPTER} of the base {base}",
        "a folder with the whole model",
        MERGE,
    )


def _check_not_quantised(path: Path, config: Mapping[str, Any]) -> None:
    quantised = config.get("quantization_config")
    if not quantised:
        return
    method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
    raise refuse(
        f"the checkpoint {path} is quantised",
        f"quantization_config with quant_method={method!r} in config.json",
        "weights in float32, float16 or bfloat16",
        "use the checkpoint that it was made from, or save it again after dequantize()",
    )


def _check_known(path: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError for an architecture that the installed transformers does not have. Reads the
    list in its source, since importing it takes seconds."""
    kind, names = config.get("model_type"), config.get("architectures") or []
    text = _known_architectures()
    if not text or (f'"{kind}"' in text and any(f'"{name}"' in text for name in names)):
        return
    raise refuse(
        f"the checkpoint {path} has an architecture that transformers "
        f"{metadata.version('transformers')} does not know",
        f"model_type={kind!r}, architectures={names}",
        "a causal language model of this release of transformers",
        "use another checkpoint, or correct model_type and architectures in config.json",
    )


def is_causal_model(architecture: object) -> bool:
    """Returns whether transformers has this class as a causal language model; all whose names end
    in ForCausalLM count, which `check_supported` then looks for."""
    text = _known_architectures().partition("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = ")[2]
    known = text.partition("\n)")[0]
    return str(architecture).endswith("ForCausalLM") or f'"{architecture}"' in known


@cache
def _known_architectures() -> str:
    """Returns the source of transformers' list of model classes; empty if it was moved."""
    spec = find_spec("transformers")
    folders = (spec and spec.submodule_search_locations) or []
    files = [Path(folder) / "models/auto/modeling_auto.py" for folder in folders]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
