"""The number format of a model where none was set: the checkpoint's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from tuning.own_dtype import dtype_of, resolve


def base(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return folder


@pytest.mark.parametrize(
    ("config", "sampled", "trained"),
    [
        ({"dtype": "bfloat16"}, "bfloat16", "bfloat16"),
        ({"torch_dtype": "bfloat16"}, "bfloat16", "bfloat16"),
        ({"dtype": "torch.float16"}, "float16", "bfloat16"),
        ({"text_config": {"dtype": "bfloat16"}}, "bfloat16", "bfloat16"),
        ({"dtype": "float32"}, "float32", "float32"),
        ({"dtype": "float8_e4m3fn"}, "float32", "float32"),
        ({}, "float32", "float32"),
    ],
)
def test_a_study_has_the_format_of_its_base(
    config: dict[str, Any], sampled: str, trained: str, tmp_path: Path
) -> None:
    study, changed = resolve(load(None, [f"base={base(tmp_path / 'base', **config)}"]))
    assert (study.decoder.dtype, study.sft.dtype) == (sampled, trained)
    named = [f"decoder.dtype={sampled}", f"sft.dtype={trained}"]
    assert changed == [one for one in named if "float32" not in one]


def test_what_is_set_stays(tmp_path: Path) -> None:
    folder = base(tmp_path / "base", dtype="bfloat16")
    study, changed = resolve(load(None, [f"base={folder}", "decoder.dtype=float32"]))
    assert study.decoder.dtype == "float32" and changed == ["sft.dtype=bfloat16"]


def test_named_decoders_share_it(tmp_path: Path) -> None:
    folder = base(tmp_path / "base", dtype="bfloat16")
    study, _ = resolve(load(None, [f"base={folder}", "decoders.cold.temperature=0.5"]))
    assert study.decoders["cold"].dtype == "bfloat16"
    assert study.decoders["cold"].temperature == 0.5
    own = ["decoders.cold.temperature=0.5", "decoders.cold.dtype=float32"]
    kept, _ = resolve(load(None, [f"base={folder}", *own]))
    assert kept.decoder.dtype == kept.decoders["cold"].dtype == "float32"


def test_without_a_base_or_with_one_that_cannot_be_read_nothing_changes(tmp_path: Path) -> None:
    for overrides in ([], [f"base={tmp_path / 'none'}"]):
        study = load(None, overrides)
        assert resolve(study) == (study, [])
    (tmp_path / "config.json").write_text("[")
    assert dtype_of(tmp_path) is None
