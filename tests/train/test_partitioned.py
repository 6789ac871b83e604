"""Loading for ZeRO-3 in parts: what comes out is what loading in every rank gives, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from forkdiv.core.errors import UserError
from forkdiv.models.loading import load_tokenizer
from forkdiv.train.partitioned import load_partitioned
from tests import checkpoints, small_llama, zero3
from tests.ranks import ADAPTERS
from tests.stack import BASE


@pytest.mark.parametrize("how", ["missing", "of another shape"])
def test_tensors_that_do_not_match_are_refused_before_any_rank_waits(
    tmp_path: Path, how: str
) -> None:
    """transformers does not report them when it partitions, or on rank 0 alone."""
    broken = checkpoints.broken(tmp_path / "broken", how)
    config = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1}
    with pytest.raises(UserError, match="do not match its config"):
        load_partitioned(broken.path, torch.float32, config)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("tied", "sft"),
    [(True, {}), (False, {"dtype": "bfloat16", **ADAPTERS})],
    ids=["tied, float32", "untied with adapters, bfloat16"],
)
def test_losses_and_weights_are_those_of_a_model_that_every_rank_loads(
    tmp_path: Path, tied: bool, sft: dict[str, Any]
) -> None:
    model = BASE
    if not tied:
        settings = {"tie_word_embeddings": False, "num_hidden_layers": 3}
        model = small_llama.write(tmp_path / "model", load_tokenizer(BASE), **settings)
    found = {way: zero3.run(model, way, tmp_path / way, sft) for way in zero3.WAYS}
    whole, partitioned = (found[way] for way in ("whole", "partitioned"))
    assert [one["losses"] for one in partitioned] == [one["losses"] for one in whole]
    weights = [
        load_file(tmp_path / way / "checkpoint" / "model.safetensors")
        for way in ("whole", "partitioned")
    ]
    start = load_file(model / "model.safetensors")
    assert weights[0].keys() == weights[1].keys() == start.keys()
    assert ("lm_head.weight" in start) == (not tied)
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
        if "_proj" in name:  # a step does not move a norm in bfloat16
            assert not torch.equal(tensor, start[name].to(tensor.dtype)), name
