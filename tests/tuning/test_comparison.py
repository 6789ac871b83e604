"""Two checkpoints that exist, compared on the real stack: any folder, and a run of several."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from tests import stack
from tuning.comparison import Pair

GRAPHS = ["eval.k=[1,8]", "sft.save_epochs=[]"]


def sharper(folder: Path, factor: float) -> Path:
    """The shipped base, its output layer a little sharper."""
    from forkdiv.models.loading import load_model

    shutil.copytree(stack.BASE, folder)
    model = load_model(stack.BASE)
    model.model.norm.weight.data *= factor
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with two saved checkpoints, as trainers leave it."""
    folder = tmp_path_factory.mktemp("run")
    for step, factor in ((100, 1.2), (200, 1.6)):
        sharper(folder / f"checkpoint-{step}", factor)
    return folder


def test_one_engine_is_started_for_checkpoints_of_one_shape_and_another_for_others(
    run: Path, tmp_path: Path
) -> None:
    base = open_checkpoint(stack.BASE)
    tuned: dict[float, Checkpoint] = {
        int(p.name.split("-")[1]): open_checkpoint(p) for p in sorted(run.iterdir())
    }
    assert Pair(base, tuned, "step").engines == [[base, *tuned.values()]]
    shutil.copytree(stack.BASE, other := tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    alone = open_checkpoint(other)
    assert Pair(base, {0: alone}, "epoch").engines == [[base], [alone]]


@pytest.mark.stack
def test_a_run_is_compared_with_its_base_and_its_earlier_checkpoints_are_dynamics(
    run: Path, tmp_path: Path
) -> None:
    done = stack.run("compare", tmp_path, *GRAPHS, f"checkpoint={run}")
    found = json.loads((tmp_path / "micro" / "summary.json").read_text())
    assert [cell["subset"] for cell in found["cells"]] == ["signed", "unsigned", "all"]
    assert {cell["epoch"] for cell in found["cells"]} == {200}
    assert {cell["epoch"] for cell in found["dynamics"]} == {100}
    assert found["unit"] == "step"
    for cell in [*found["base"], *found["cells"], *found["dynamics"]]:
        assert cell["valid"] and cell["agreement"]["agrees"]
        assert cell["valid_solutions"] == 2, "one path, forward or reverse"
    assert all(cell["delta_to_base"].keys() == {"1", "8"} for cell in found["cells"])
    assert f"report: {tmp_path / 'micro' / 'report.html'}" in done.stdout
    again = stack.run("compare", tmp_path, *GRAPHS, f"checkpoint={run}")
    assert "this comparison is done" in again.stdout
