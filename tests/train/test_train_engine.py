"""However a run is placed, DeepSpeed's steps lead to the same weights."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from forkdiv.core.config.study import LoraConfig
from forkdiv.models.loading import load_model
from forkdiv.models.lora import merge_adapters
from tests.ranks import FORK_AWARE, LORA, PLAIN
from tests.stack import BASE, ROOT, clean_environment

NAMES = [*PLAIN, *FORK_AWARE, *LORA]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ways")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"DS_ACCELERATOR": "cpu", "DS_LOG_LEVEL": "error", "LOCAL_RANK": "0"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ranks", str(out), *NAMES],
            cwd=ROOT,
            env=clean_environment() | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=800)[0] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), "\n".join(one[-4000:] for one in said)
    return out


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


@pytest.mark.stack
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "stage-1"])
def test_stage_passes_packing_checkpointing_and_offload_change_no_weight(
    exported: Path, name: str
) -> None:
    start, plain = weights(BASE), weights(exported / "stage-1")
    assert apart(start, plain) > 1e-3
    # Adam's first steps have the size of the learning rate, 1e-3, whatever the gradient's
    assert apart(weights(exported / name), plain) < 1e-4


@pytest.mark.stack
@pytest.mark.parametrize("name", [name for name in FORK_AWARE if name != "fork-aware"])
def test_a_loss_with_targets_of_each_token_trains_the_same_weights_at_every_stage_and_packed(
    exported: Path, name: str
) -> None:
    plain = weights(exported / "fork-aware")
    assert apart(weights(exported / "stage-1"), plain) > 1e-3  # not those of cross-entropy
    assert apart(weights(exported / name), plain) < 1e-4


@pytest.mark.stack
def test_an_engine_imports_neither_mlflow_nor_torchs_compiler(exported: Path) -> None:
    """DeepSpeed would: four seconds of the start of every worker."""
    loaded = (exported / "stage-1.modules-0").read_text().split()
    assert "deepspeed.autotuning.autotuner" in loaded
    assert not {"mlflow", "torch._inductor.compile_fx"} & set(loaded)


@pytest.mark.stack
def test_adapters_are_trained_and_merged_into_an_ordinary_checkpoint(exported: Path) -> None:
    start, tuned = weights(BASE), weights(exported / "lora")
    moved = {name for name in start if not torch.equal(start[name], tuned[name])}
    linear = {name for name in start if "_proj.weight" in name}
    assert moved == linear
    for name in linear:
        rank = torch.linalg.matrix_rank((tuned[name] - start[name]).double(), atol=1e-5)
        assert 1 <= rank <= 4
    load_model(exported / "lora")  # refuses tensors that are missing or too many
    assert apart(tuned, weights(exported / "lora-stage-3")) < 1e-4


def test_merging_sums_an_adapter_with_its_weight_and_keeps_names_and_precision() -> None:
    head = "base_model.model.model.layers.0.mlp.up_proj"
    state = {
        f"{head}.base_layer.weight": torch.ones(3, 2, dtype=torch.bfloat16),
        f"{head}.base_layer.bias": torch.ones(3),
        f"{head}.lora_A.default.weight": torch.tensor([[1.0, 2.0]]),
        f"{head}.lora_B.default.weight": torch.tensor([[0.0], [1.0], [2.0]]),
        "base_model.model.model.norm.weight": torch.ones(2),
    }
    out = merge_adapters(state, LoraConfig(rank=1, alpha=2.0))
    assert set(out) == {
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.bias",
        "model.norm.weight",
    }
    found = out["model.layers.0.mlp.up_proj.weight"]
    assert found.dtype == torch.bfloat16
    assert found.tolist() == [[1, 1], [3, 5], [5, 9]]
