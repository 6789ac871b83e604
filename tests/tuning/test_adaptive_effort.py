"""Problems that are settled get no more samples (eval.enough), and pass@k stays unbiased."""

from __future__ import annotations

import json
from pathlib import Path

from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint
from tests.fakes import FakeSampler
from tests.tuning.pipelines import a_line, faithful
from tuning.space import Point

ADAPTIVE = ("eval.enough=2", "eval.first=4", "eval.samples=32", "eval.problems=20")


def half_easy(checkpoint: Checkpoint, problem: Problem) -> float:
    return 0.8 if problem.subset == "signed" else 0.0


def test_settled_problems_get_no_more_samples(tmp_path: Path) -> None:
    sampler = FakeSampler(chance=half_easy)
    line = a_line(tmp_path, sampler, *ADAPTIVE)
    result = line.run(Point(1.0, 0, tuned=False))
    signed, unsigned, whole = result.cells
    assert unsigned.n_drawn == 10 * 32, "nothing there is ever right"
    assert signed.n_drawn and 10 * 4 <= signed.n_drawn < 10 * 16
    assert sampler.drawn == whole.n_drawn == signed.n_drawn + unsigned.n_drawn
    assert result.drawn == sampler.drawn
    assert unsigned.as_json()["pass_at"]["32"]["value"] == 0
    assert signed.as_json()["pass_at"]["32"]["value"] == 1


def test_adaptive_effort_says_nothing_that_needs_equally_many_samples(tmp_path: Path) -> None:
    line = a_line(tmp_path, FakeSampler(chance=half_easy), *ADAPTIVE)
    (cell, *_) = line.run(Point(1.0, 0, tuned=False)).cells
    assert (cell.law, cell.majority_at, cell.distinct_at, cell.best_case_pass_at) == (
        None,
        {},
        {},
        {},
    )
    json.dumps(cell.as_json(), allow_nan=False)


def test_adaptive_effort_draws_the_first_samples_of_the_whole_study(tmp_path: Path) -> None:
    """Where the whole is there already nothing is drawn, and the rule looks at its first ones."""
    point = Point(1.0, 0, tuned=False)
    fresh = a_line(tmp_path / "fresh", FakeSampler(chance=half_easy), *ADAPTIVE).run(point)
    a_line(tmp_path / "whole", FakeSampler(chance=half_easy), *ADAPTIVE, "eval.enough=null").run(
        point
    )
    again = FakeSampler(chance=half_easy)
    found = a_line(tmp_path / "whole", again, *ADAPTIVE).run(point)
    assert again.drawn == 0
    assert [cell.pass_at for cell in found.cells] == [cell.pass_at for cell in fresh.cells]


def test_adaptive_samples_of_the_models_own_chances_agree_with_exact_values(
    tmp_path: Path,
) -> None:
    line = a_line(tmp_path, FakeSampler(chance=faithful), *ADAPTIVE)
    result = line.run(Point(1.0, 0, tuned=False))
    assert all(cell.agreement and cell.agreement.agrees for cell in result.cells)
    liar = a_line(tmp_path / "liar", FakeSampler(chance=lambda *_: 0.9), *ADAPTIVE)
    assert not all(
        cell.agreement and cell.agreement.agrees
        for cell in liar.run(Point(1.0, 0, tuned=False)).cells
    )
