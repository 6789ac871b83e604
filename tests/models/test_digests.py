"""Weights that change after they were written are refused wherever they are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from forkdiv.core.errors import UserError
from forkdiv.models.digests import DIGESTS, check_digests, write_digests
from forkdiv.models.loading import load_model
from tests.stack import BASE


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "epoch-0001"
    shutil.copytree(BASE, folder)
    write_digests(folder)
    return folder


def test_weights_as_they_were_written_are_loaded(sealed: Path) -> None:
    check_digests(sealed)
    assert load_model(sealed).num_parameters() > 0


def test_one_changed_byte_is_refused_by_name(sealed: Path) -> None:
    weights = sealed / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # a number of the last tensor: whatever reads the file finds nothing wrong
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors have changed since they were written"):
        load_model(sealed)


def test_a_file_of_weights_that_is_gone_is_refused_by_name(sealed: Path) -> None:
    (sealed / DIGESTS).write_text(json.dumps({"model-00002.safetensors": "0" * 64}))
    with pytest.raises(UserError, match=r"model-00002\.safetensors .*no such file"):
        check_digests(sealed)


def test_a_folder_without_a_seal_is_somebody_elses_and_is_taken(tmp_path: Path) -> None:
    check_digests(tmp_path)
