"""What a run is said to take: shapes of real models, their steps and their memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import LoraConfig, PlaceConfig, SftConfig
from forkdiv.core.errors import UserError
from forkdiv.models.loading import load_model
from forkdiv.train import memory
from forkdiv.train.memory import Shape
from jobs import plan as job
from tests.stack import BASE, ROOT

CONFIGS = ROOT / "jobs" / "configs"
PARAMETERS = {"qwen2.5-0.5b": 494_032_768, "qwen2.5-7b": 7_615_616_512}  # as published
BF16 = SftConfig(dtype="bfloat16", batch_size=32)


def shape_of(name: str, sft: SftConfig = BF16) -> Shape:
    return memory.shape(memory.read_architecture(CONFIGS / "architectures" / f"{name}.json"), sft)


@pytest.fixture(scope="module")
def seven() -> Shape:
    return shape_of("qwen2.5-7b")


def total(shape: Shape, sft: SftConfig = BF16, tokens: int = 512, **place: Any) -> float:
    settings = {"device": "gpu", "workers": 8, **place}
    return memory.estimate(shape, sft, PlaceConfig.model_validate(settings), tokens).total


def test_an_architectures_parameters_are_those_of_the_model() -> None:
    assert {name: shape_of(name).parameters for name in PARAMETERS} == PARAMETERS
    own = memory.shape(memory.read_architecture(BASE), SftConfig())
    assert own.parameters == own.trained == load_model(BASE).num_parameters()


def test_lora_parameters_are_counted_from_the_layer_sizes() -> None:
    shape = shape_of(
        "qwen2.5-0.5b", SftConfig(lora=LoraConfig(rank=8, targets=("q_proj", "v_proj")))
    )
    assert shape.trained == 24 * 8 * ((896 + 896) + (896 + 128))
    with pytest.raises(UserError, match="q_proj"):
        shape_of("qwen2.5-0.5b", SftConfig(lora=LoraConfig(rank=8, targets=("query",))))


def test_no_more_logits_are_planned_than_are_computed_at_once(seven: Shape) -> None:
    def logits(**place: Any) -> float:
        config = PlaceConfig.model_validate({"device": "gpu", "workers": 1, **place})
        return memory.estimate(seven, BF16, config, 512).gpu["logits"]

    # a pass of 16,384 tokens: in bfloat16, and in float32 with a copy and the gradient
    all_at_once = 32 * 512 * seven.vocabulary * 16 / memory.GIB
    assert logits(logits_gib=1000) == pytest.approx(all_at_once)
    assert logits(logits_gib=0.5) == pytest.approx(0.5 * 4)
    assert logits(logits_gib=1000, micro_batch=1) == pytest.approx(all_at_once / 32)


def test_zero_stages_partition_sixteen_bytes_per_parameter(seven: Shape) -> None:
    per_parameter = {0: 16.0, 1: 4 + 12 / 8, 2: 2 + 14 / 8, 3: 16 / 8}
    for stage, wanted in per_parameter.items():
        place = PlaceConfig(device="gpu", workers=8, zero_stage=stage)
        gpu = memory.estimate(seven, BF16, place, 512).gpu
        held = gpu["weights"] + gpu["gradients"] + gpu["optimizer"]
        assert held * memory.GIB / seven.parameters == pytest.approx(wanted)


def test_only_the_first_worker_needs_a_whole_copy_at_stage_3_and_only_to_save(
    seven: Shape,
) -> None:
    whole = 2 * seven.parameters / memory.GIB
    for stage in (1, 3):
        place = PlaceConfig(device="gpu", workers=8, zero_stage=stage)
        need = memory.estimate(seven, BF16, place, 512)
        assert need.saving == pytest.approx(whole)
        assert need.loading == pytest.approx(whole if stage == 1 else 2 * 152064 * 3584 / 2**30)


def test_a_sleeping_engine_takes_some_memory_of_its_gpu(seven: Shape) -> None:
    asleep = total(seven, engine={"while_training": "sleep"})
    assert asleep - total(seven) == pytest.approx(memory.SLEEPING_GIB)


def test_a_plan_says_what_the_engine_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for gpus, said in ((1, "sleeps while a model is trained"), (2, "on 1 GPU of its own")):
        job.run(load(CONFIGS / "arithmetic-chain.yaml", [f"plan.gpus_per_node={gpus}"]))
        assert said in capsys.readouterr().out
    job.run(load(None, ["plan.architecture=qwen2.5-0.5b"]))
    assert "engine: on the CPU, beside training" in capsys.readouterr().out


def test_settings_that_save_memory_lower_the_estimate(seven: Shape) -> None:
    plain = total(seven, zero_stage=3)
    assert total(seven, zero_stage=3, micro_batch=1) < plain
    assert total(seven, zero_stage=3, activation_checkpointing=True) < plain
    assert total(seven, zero_stage=3, offload="optimizer") < plain
    assert total(seven, zero_stage=3, tokens=2048) > plain
    place = PlaceConfig(device="gpu", workers=8, zero_stage=3, offload="parameters")
    need = memory.estimate(seven, BF16, place, 512)
    assert need.gpu["weights"] == need.gpu["optimizer"] == 0
    assert need.host * memory.GIB == pytest.approx(14 / 8 * seven.parameters)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "arithmetic-chain",
            [
                "494,032,768 parameters",
                "1 on 1 node,",
                "steps: 3200 (16 epochs",
                "share a GPU in turns (1 here)",
            ],
        ),
        (
            "arithmetic-chain-7b",
            [
                "7,615,616,512 parameters",
                "8 on 2 nodes, ZeRO stage 3",
                "400",
                "share a GPU in turns (8 here)",
            ],
        ),
    ],
)
def test_the_shipped_configs_for_real_models_are_planned_and_fit(
    name: str, said: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    job.run(load(CONFIGS / f"{name}.yaml"))
    out = capsys.readouterr().out
    assert all(part in out for part in said)


def test_a_run_that_will_not_fit_is_refused_with_what_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        job.run(load(CONFIGS / "arithmetic-chain-7b.yaml", ["plan.gpu_gib=24"]))
    assert "not expected to fit" in str(caught.value) and "place.offload" in str(caught.value)


def test_a_plan_without_micro_batch_has_the_passes_that_training_chooses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    one_gpu = ["sft.batch_size=256", "plan.gpu_gib=24"]
    job.run(load(CONFIGS / "arithmetic-chain.yaml", [*one_gpu, "place.micro_batch=null"]))
    assert "passes: 2 rows in a forward pass" in capsys.readouterr().out
    with pytest.raises(UserError, match="not expected to fit"):
        job.run(load(CONFIGS / "arithmetic-chain.yaml", [*one_gpu, "place.micro_batch=256"]))
    assert "passes:" not in capsys.readouterr().out


def test_an_unreadable_architecture_is_refused(tmp_path: Path) -> None:
    for text in ("{", json.dumps({"hidden_size": 3})):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"plan\.architecture cannot be read"):
            memory.read_architecture(tmp_path / "config.json")
