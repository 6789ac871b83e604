"""A checkpoint that a trainer is still writing is not taken for a complete one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from forkdiv.models.complete import has_ended, missing, state_of
from tests.adapters import saved_adapter
from tests.stack import BASE

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint-5").mkdir()
    return tmp_path / "checkpoint-5"


def test_a_model_is_complete_once_its_weights_have_the_length_that_their_header_says(
    folder: Path,
) -> None:
    assert missing(folder) == "config.json"
    shutil.copyfile(BASE / "config.json", folder / "config.json")
    assert "no weights" in str(missing(folder))
    data = (BASE / WEIGHTS).read_bytes()
    for length in (0, 7, 1000, len(data) - 1):
        (folder / WEIGHTS).write_bytes(data[:length])
        assert "cannot be read" in str(missing(folder)), length
    before = state_of(folder)
    (folder / WEIGHTS).write_bytes(data)
    assert missing(folder) is None and state_of(folder) != before == before


def test_every_shard_that_the_index_names_must_be_there(folder: Path) -> None:
    shutil.copyfile(BASE / "config.json", folder / "config.json")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    shutil.copyfile(BASE / WEIGHTS, folder / "model-00002-of-00002.safetensors")
    assert "no model-00001-of-00002.safetensors" in str(missing(folder))


def test_an_adapter_needs_both_of_its_files_whole(folder: Path, tmp_path: Path) -> None:
    whole = saved_adapter(tmp_path / "adapter")
    shutil.copyfile(whole / "adapter_config.json", folder / "adapter_config.json")
    assert "no adapter_model.safetensors" in str(missing(folder))
    data = (whole / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(data[:-1])
    assert "cannot be read" in str(missing(folder))
    (folder / "adapter_model.safetensors").write_bytes(data)
    assert missing(folder) is None


def test_a_checkpoint_of_transformers_trainer_ends_with_its_state(folder: Path) -> None:
    for name in ("config.json", WEIGHTS):
        shutil.copyfile(BASE / name, folder / name)
    (folder / "training_args.bin").write_bytes(b"0")
    assert missing(folder) == "trainer_state.json" and not has_ended(folder)
    (folder / "trainer_state.json").write_text('{"global_step": 5, "max_st')
    assert missing(folder) == "trainer_state.json" and not has_ended(folder)
    (folder / "trainer_state.json").write_text('{"global_step": 5, "max_steps": 10}')
    assert missing(folder) is None and not has_ended(folder)
    (folder / "trainer_state.json").write_text('{"global_step": 10, "max_steps": 10}')
    assert has_ended(folder)
