"""Compares the architectures that the config.json files of two checkpoints describe."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from forkdiv.core.errors import refuse
from forkdiv.models.files import read_json

# fields of config.json that do not decide what the model computes
NOT_COMPUTED = {
    *("_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "torch_dtype"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id"),
    *("unk_token_id", "tokenizer_class", "id2label", "label2id", "use_cache", "pretraining_tp"),
    *("unsloth_version", "unsloth_fixed", "initializer_range", "_attn_implementation"),
    *("attention_dropout", "hidden_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"),
}


def same_architecture(path: Path, other: Path) -> bool:
    """Whether both configs describe the same model. Notes, settings of training, and the ids of
    special tokens are not part of it."""
    return not differences(path, other)


def differences(
    path: Path, other: Path, ignored: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Returns both values of each field of config.json in which the computed models differ, by
    name; `ignored` fields are left out. Raises UserError if a config cannot be read."""
    skipped = NOT_COMPUTED.union(ignored)
    first, second = (
        _computed(read_json(folder / "config.json"), skipped) for folder in (path, other)
    )
    if _rounded(first) == _rounded(second):
        return {}
    # Releases of transformers write the same config differently: normalise both with this one.
    first, second = (_computed(_normalised(folder), skipped) for folder in (path, other))
    names = sorted(first.keys() | second.keys())
    return {
        name: (first.get(name), second.get(name))
        for name in names
        if _rounded(first.get(name)) != _rounded(second.get(name))
    }


def ties_embeddings(path: Path) -> bool:
    """Whether the output embedding of the model is its input embedding; config.json may leave this
    to the default of the architecture."""
    config = read_json(path / "config.json")
    if "tie_word_embeddings" not in config:
        config = _normalised(path)
    return bool(config.get("tie_word_embeddings"))


def _normalised(path: Path) -> dict[str, Any]:
    """Returns the config as the installed transformers writes it, without the fields that it does
    not know."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and huggingface_hub raise errors of many kinds
        raise refuse(
            f"the checkpoint {path} has a config.json that transformers cannot read",
            " ".join(f"{type(error).__name__} {error}".split())[:300],
            "the config.json that save_pretrained writes",
            "copy or export the checkpoint again",
        ) from error
    fields: dict[str, Any] = config.to_dict()
    declared = {field.name for field in dataclasses.fields(config)}
    unknown = read_json(path / "config.json").keys() - declared - {"model_type"}
    return {name: value for name, value in fields.items() if name not in unknown}


def _computed(config: Mapping[str, Any], skipped: Collection[str]) -> dict[str, Any]:
    """Returns the fields that decide what the model computes. null is a field that is not set."""
    if "rope_type" in config:
        skipped = {*skipped, "type"}  # the same value under its name in older releases
    return {
        name: _computed(value, skipped) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in skipped and value is not None
    }


def _rounded(value: Any) -> Any:
    """Rounds numbers to float32, in which models compute with them: files converted from other
    formats have 9.999999747378752e-06 in place of 1e-05."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if not isinstance(value, float):
        return value
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return value
