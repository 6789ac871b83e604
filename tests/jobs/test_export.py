"""What is exported is what was measured, in the tool's file forms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.progress import Progress
from forkdiv.core.records import Problem
from forkdiv.core.results import CellName
from forkdiv.core.store import Store
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.lm_eval.measuring import measure
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score import verdicts
from forkdiv.tasks.registry import build
from jobs.export import run
from tests.fakes import FakeSampler
from tests.stack import BASE
from tuning.models import Model, sweep_models
from tuning.preflight import check_base

GRID = (
    f"base={BASE}",
    "name=mine",
    "eval.problems=10",
    "eval.samples=8",
    "eval.bootstrap=100",
    "sweep.fork_density=[1.0]",
    "sweep.temperature=[0.7,1.0]",
)


def grid(root: Path, *overrides: str) -> StudyConfig:
    return load(None, [*GRID, f"place.root={root}", *overrides])


def models(study: StudyConfig) -> list[Model]:
    base = check_base(study, build(study.task))
    return list(sweep_models(study, base, Store.of(study.place)))


def chance(checkpoint: Checkpoint, problem: Problem) -> float:
    return 0.3 if checkpoint.fingerprint[0] in "01234567" else 0.8


def draw(study: StudyConfig, model: Model) -> dict[str, Any]:
    """Samples of a model, as its study would have drawn them; the cell of all of them."""
    store, config = Store.of(study.place), model.study.eval
    evaluation = Evaluation.of(model.study)
    progress = Progress(study.place.root / "progress.jsonl")
    sampler = FakeSampler(chance)
    samples = sample_sets.obtain(store, evaluation, model.checkpoint, sampler, progress)
    counts = verdicts.obtain(store, evaluation.task, evaluation.problems, config.samples, samples)
    name = CellName(axes={}, tuned=True, temperature=1.0, seed=0)
    return cells(name, CellInputs(counts), config)[-1].as_json()


Drawn = tuple[Path, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """The samples of a whole grid in their store, and the cell of every model."""
    study = grid(tmp_path_factory.mktemp("drawn"))
    found = {model.name: draw(study, model) for model in models(study)}
    return study.place.root / "store", found


def test_what_is_exported_is_measured_to_the_studys_numbers(drawn: Drawn, tmp_path: Path) -> None:
    shutil.copytree(drawn[0], tmp_path / "store")
    study = grid(tmp_path)
    run(study)
    folders = {path.name: path for path in (tmp_path / "mine" / "harness").iterdir()}
    assert sorted(folders) == sorted(name.replace(" ", "_") for name in drawn[1])
    assert len(folders) == 4, "the base and one density, at two temperatures each"
    for name, cell in drawn[1].items():
        found = measure(study, [folders[name.replace(" ", "_")]], []).as_json()["cells"][-1]
        for part in ("pass_at", "majority_at", "distinct_at", "best_case_pass_at", "lost"):
            assert found[part] == cell[part]
        assert f"T={found['temperature']:g}" in name
        (results,) = folders[name.replace(" ", "_")].glob("results_*.json")
        told = json.loads(results.read_text())["results"][study.task.kind]
        assert told["pass@8,none"] == pytest.approx(cell["pass_at"]["8"]["value"])


def test_exporting_again_replaces_the_files(drawn: Drawn, tmp_path: Path) -> None:
    shutil.copytree(drawn[0], tmp_path / "store")
    study = grid(tmp_path, "sweep.temperature=[1.0]")
    run(study)
    files = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*.json*")}
    assert files
    run(study)
    assert {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*.json*")} == files


@pytest.mark.parametrize("setting", ["", "eval.samples=16", "eval.problems=12"])
def test_where_samples_are_missing_nothing_is_written(
    drawn: Drawn, tmp_path: Path, setting: str
) -> None:
    shutil.copytree(drawn[0], tmp_path / "store")
    if not setting:
        last = models(grid(tmp_path))[-1]
        shutil.rmtree(last.samples(Store(tmp_path / "store")).path)
    message = (
        r"samples of (base T=0\.7|density=1 T=1) are missing: "
        r"got fewer than \d+ samples for \d+ of 1[02] problems"
    )
    with pytest.raises(UserError, match=message):
        run(grid(tmp_path, *filter(None, [setting])))
    assert not (tmp_path / "mine").exists()


def test_the_samples_of_one_checkpoint_and_its_base_are_exported(tmp_path: Path) -> None:
    study = load(None, [*GRID[:-2], f"place.root={tmp_path}", f"checkpoint={BASE}"])
    base = check_base(study, build(study.task))
    draw(study, Model("", study, base))
    run(study)
    assert {path.name for path in (tmp_path / "mine" / "harness").iterdir()} == {
        "base_T=1",
        "tuned_T=1",
    }
