"""The proof of a swap by the bits of the weights, in real engines: every right load is accepted,
and every wrong one is refused. Soak has the counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from forkdiv.core.config.study import LoraConfig
from forkdiv.models.checkpoint import check_tensors
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.models.lora import add_adapters, merge_adapters
from tests.one_step import one_step_later
from tests.sample.broken_swap import FAULTS
from tests.stack import BASE, ROOT, clean_environment
from tests.swaps import ENVIRONMENT

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def checkpoint(folder: Path, dtype: torch.dtype, tied: bool = True, shards: str = "10GB") -> Path:
    """The shipped base, saved in `dtype`."""
    model: Any = load_model(BASE, dtype)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone() * 1.5)
    model.save_pretrained(folder, max_shard_size=shards)
    load_tokenizer(BASE).save_pretrained(folder)
    return folder


def merged_adapters(folder: Path, dtype: torch.dtype) -> Path:
    model: Any = load_model(BASE, dtype)
    config = LoraConfig(rank=2)
    adapted = add_adapters(model, config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    state = merge_adapters(dict(adapted.named_parameters()), config)
    adapted.get_base_model().save_pretrained(folder, state_dict=state)
    load_tokenizer(BASE).save_pretrained(folder)
    return folder


def in_one_engine(dtype: str, *paths: Path, rounds: int = 1) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.swaps", dtype, str(rounds), *map(str, paths)],
        cwd=ROOT,
        env=clean_environment() | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def families(folder: Path, name: str) -> list[list[Path]]:
    """Checkpoints that share an engine in this dtype, by engine."""
    dtype = DTYPES[name]
    tied = checkpoint(folder / "tied", dtype)
    sharded = checkpoint(folder / "sharded", dtype, shards="500KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    untied = checkpoint(folder / "untied", dtype, tied=False)
    as_tied = [
        one_step_later(tied, folder / "tied-later"),
        sharded,
        merged_adapters(folder / "merged", dtype),
    ]
    for other in as_tied:
        check_tensors(other, tied)
    return [[tied, *as_tied], [untied, one_step_later(untied, folder / "untied-later")]]


@pytest.mark.stack
@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_right_loads_are_accepted_and_wrong_ones_refused(dtype: str, tmp_path: Path) -> None:
    for family in families(tmp_path, dtype):
        found = in_one_engine(dtype, *family)
        assert found["refused"] == {} and found["right"] == len(family)
        assert found["accepted"] == [] and found["wrong"] == len(FAULTS)


@pytest.mark.soak
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_hundred_right_and_wrong_swaps(dtype: str, tmp_path: Path) -> None:
    rounds = 200 // (len(FAULTS) * len(DTYPES)) + 1
    for family in families(tmp_path, dtype):
        found = in_one_engine(dtype, *family, rounds=rounds)
        print(dtype, found)
        assert found["refused"] == {} and found["accepted"] == []


@pytest.mark.soak
def test_two_hundred_right_swaps_of_a_real_model_in_bfloat16(tmp_path: Path) -> None:
    from tests.real_model import smollm2

    later = [one_step_later(smollm2(), tmp_path / f"later-{i}", seed=i) for i in range(3)]
    found = in_one_engine("bfloat16", smollm2(), *later, rounds=2)
    print(found)
    assert found["refused"] == {} and found["accepted"] == [] and found["wrong"] == 2 * len(FAULTS)
    many = in_one_engine("bfloat16", smollm2(), *later * 17, rounds=4)
    print(many)
    assert many["refused"] == {} and many["right"] >= 200
