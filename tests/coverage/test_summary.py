"""A study's summary: the same fingerprint wherever it runs, and no trust in what is invalid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core import fingerprint
from forkdiv.core.config.load import load
from forkdiv.core.errors import InvalidResult
from forkdiv.core.results import Cell, Summary
from forkdiv.coverage import summary
from forkdiv.models.checkpoint import Checkpoint
from tests.summaries import a_cell, read_cell

BASE = Checkpoint(Path("base"), "b" * 32)


def cell(density: float | None, subset: str = "all", **more: Any) -> Cell:
    changes = {1: (0.3, 0.2, 0.4), 64: (-0.1, -0.2, 0.0)}
    return read_cell(a_cell(density, 0.7, subset=subset, changes=changes, **more))


def change(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def assembled(*cells: Cell, settings: Sequence[str] = ()) -> Summary:
    study = load(None, settings)
    trials = [[one] for one in cells]
    return summary.assemble(study, "f" * 32, ["fork_density"], trials, {"sweep": 1.23})


def study_fingerprint(*overrides: str, base: Checkpoint = BASE) -> str:
    return summary.identity(load(None, overrides), base).fingerprint


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "place.root=/elsewhere",
        "place.workers=4",
        "place.device=gpu",
        "place.engine.replicas=3",
        "place.mlflow_uri=http://127.0.0.1:1",
        "base=/elsewhere/base",
        "base=null",
        "pretrain.examples=10",
        "audit.quantile=0.9",
    ],
)
def test_name_and_place_are_not_part_of_a_studys_identity(override: str) -> None:
    assert study_fingerprint(override) == study_fingerprint()


@pytest.mark.parametrize(
    "override",
    [
        "task.names=20",
        "dataset.fork_density=0.1",
        "sft.epochs=5",
        "decoder.temperature=0.5",
        "eval.samples=32",
        "eval.bootstrap=500",
        "sweep.temperature=[0.7]",
        "sweep.direction=[0.5]",
        "prompt.template=plain",
        "dataset.branch_coverage=2",
        "dataset.synthesis=samples",
        "synthesis.samples=3",
        "task.forks=2 task.names=24",
    ],
)
def test_settings_that_decide_results_are_part_of_the_identity(override: str) -> None:
    assert study_fingerprint(*override.split()) != study_fingerprint()


def test_the_base_is_part_of_the_identity_but_not_its_path() -> None:
    assert study_fingerprint(base=Checkpoint(Path("base"), "c" * 32)) != study_fingerprint()
    assert study_fingerprint(base=Checkpoint(Path("moved"), "b" * 32)) == study_fingerprint()


@pytest.mark.parametrize("stage", ["dataset", "synthesis", "train", "samples", "verdicts", "exact"])
def test_a_new_stage_version_makes_a_finished_study_run_again(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = study_fingerprint()
    monkeypatch.setitem(fingerprint.STAGE_VERSIONS, stage, 99)
    assert study_fingerprint() != before


def test_the_bases_cells_are_apart_from_the_tuned_ones() -> None:
    done = assembled(cell(None), cell(0.0), cell(0.5))
    assert [one.axes["fork_density"] for one in done.base] == [None]
    assert [one.axes["fork_density"] for one in done.cells] == [0.0, 0.5]
    assert done.seconds == {"sweep": 1.2}
    assert done.axes == ("fork_density",)


def test_a_tuned_cell_without_a_data_axis_is_not_a_base_cell() -> None:
    tuned = cell(None, tuned=True)
    done = assembled(cell(None), tuned)
    assert (done.base, done.cells) == ((cell(None),), (tuned,))


def test_a_summary_contains_the_notes_of_the_task() -> None:
    leaky = assembled(settings=["task.kind=arithmetic_chain", "task.position_leak=true"])
    assert len(leaky.notes) == 1 and "leak" in leaky.notes[0]
    assert assembled().notes == ()


def test_a_summary_is_json_without_paths() -> None:
    done = assembled(cell(None), cell(0.5)).as_json()
    assert json.loads(json.dumps(done, allow_nan=False)) == done
    assert "place" not in done["settings"]
    assert done["settings"]["sft"]["epochs"] == 4
    assert {"torch", "vllm", "ray"} <= done["versions"].keys()


def test_the_headline_metric_is_the_worst_change_at_the_largest_k() -> None:
    worse = {"8": change(-0.9), "64": change(-0.3)}
    done = assembled(
        cell(None),
        cell(0.5),
        cell(0.0, delta_to_base=worse),
        cell(0.0, "signed", delta_to_base={"64": change(-0.8)}),
        cell(1.0, delta_to_base={}, valid=False),
    )
    assert summary.metrics(done) == {"largest_loss_at_max_k": -0.3, "seconds/sweep": 1.2}


def test_a_study_of_the_base_alone_has_no_headline_change() -> None:
    assert summary.metrics(assembled(cell(None))) == {"seconds/sweep": 1.2}


def test_a_study_with_valid_cells_passes_the_check() -> None:
    summary.check(assembled(cell(None), cell(0.5, agreement=None)))


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (
            cell(0.5, "signed", valid=False, errors=7),
            "fork_density 0.5 T=0.7 signed: 7 samples without a verdict",
        ),
        (
            cell(None, valid=False, errors=1, agreement=None),
            "base T=0.7 all: 1 samples without a verdict",
        ),
        (
            cell(0.0, agreement={"worst_z": -6.31, "at_k": 4, "agrees": False}),
            "fork_density 0.0 T=0.7 all: sampled pass@4 differs from exact by -6.3 standard errors",
        ),
    ],
)
def test_an_invalid_cell_is_named(bad: Cell, told: str) -> None:
    with pytest.raises(InvalidResult) as caught:
        summary.check(assembled(cell(None), bad, cell(1.0)))
    assert str(caught.value) == f"these cells cannot be trusted: {told}"


def test_a_cell_is_named_by_every_axis_that_it_varies() -> None:
    bad = cell(0.5, valid=False, errors=2, structure="data-level", synthesis="enumerator")
    told = "fork_density 0.5 structure data-level synthesis enumerator T=0.7 all: 2 samples"
    with pytest.raises(InvalidResult, match=told):
        summary.check(assembled(bad))


def test_a_tuned_cell_that_varies_no_data_is_named_as_tuned() -> None:
    bad = cell(None, tuned=True, valid=False, errors=2)
    with pytest.raises(InvalidResult, match=r"trusted: tuned T=0\.7 all: 2 samples"):
        summary.check(assembled(bad))


def test_a_summary_is_valid_exactly_if_the_check_passes() -> None:
    assert summary.is_valid(assembled(cell(None), cell(0.5)))
    assert not summary.is_valid(assembled(cell(None), cell(0.5, valid=False, errors=1)))
