"""Strongly changed weights for the check of an engine's outputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from forkdiv.models.digests import write_digests
from forkdiv.models.loading import load_model, load_tokenizer, sequence_logprobs
from forkdiv.models.perturbed import write_perturbed
from tests.stack import BASE

IDS = [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14]]


def changed(source: Path, folder: Path) -> Path:
    write_perturbed(source, folder / "changed")
    return folder / "changed"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "model"))


def test_log_probabilities_change_by_about_two_nats_and_every_weight_changes(
    model: Path, tmp_path: Path
) -> None:
    other = changed(model, tmp_path)
    before, after = load_file(model / "model.safetensors"), load_file(other / "model.safetensors")
    assert before.keys() == after.keys()
    assert all((before[name] != after[name]).any() for name in before)
    difference = sequence_logprobs(other, IDS) - sequence_logprobs(model, IDS)
    assert 0.3 < float((difference**2).mean() ** 0.5) < 6
    assert (changed(model, tmp_path / "again") / "model.safetensors").read_bytes() == (
        other / "model.safetensors"
    ).read_bytes()


def test_a_checkpoint_that_forkdiv_wrote_can_be_changed(model: Path, tmp_path: Path) -> None:
    """Its digests are of the weights before."""
    write_digests(model)
    load_model(changed(model, tmp_path))


def test_stray_weights_are_left_out_and_shards_stay_shards(tmp_path: Path) -> None:
    loaded: Any = load_model(BASE, torch.bfloat16)
    loaded.save_pretrained(tmp_path / "model", max_shard_size="500KB")
    load_tokenizer(BASE).save_pretrained(tmp_path / "model")
    save_file({"x": torch.ones(2)}, tmp_path / "model" / "consolidated.safetensors")
    other = changed(tmp_path / "model", tmp_path)
    assert not (other / "consolidated.safetensors").exists()
    assert len(list(other.glob("model-*.safetensors"))) > 1
    load_model(other, torch.bfloat16)


def test_equal_weights_under_two_names_stay_equal(model: Path, tmp_path: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    after = load_file(changed(model, tmp_path) / "model.safetensors")
    assert torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"])
