"""`forkdiv power` as a user runs it: from assumptions, and from the results of a comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.config.load import load
from forkdiv.core.results import CellName
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.coverage.stats.power import assumed
from forkdiv.score.counts import ProblemCounts
from tests.summaries import a_summary
from tuning.power import Question

ROOT = Path(__file__).parents[2]
MAIN = "import sys; from forkdiv.cli import main; sys.exit(main())"


def power(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, "power", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def rows(output: str) -> dict[str, list[str]]:
    cells = [line.strip("│ ").split("│") for line in output.splitlines() if "│" in line]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in cells}


def test_a_table_of_designs_says_what_it_takes_to_show_a_loss() -> None:
    quick = ("--k", "8", "--loss", "0.05", "--problems", "100,400", "--samples", "8,32")
    done = power(*quick, "--power", "0.9")
    assert (done.returncode, done.stderr) == (0, "")
    table = rows(done.stdout)
    assert list(table) == ["100", "400"]
    values = np.array([[float(text) for text in row] for row in table.values()])
    assert (values[1, [0, 2]] > values[0, [0, 2]]).all(), "more problems, more power"
    assert values[1, [1, 3]] == pytest.approx(values[0, [1, 3]] / 2, abs=0.002), "half the loss"
    title = "Power to show a loss of 0.05 of pass@8 (95% limits)"
    assert title in " ".join(done.stdout.split())
    assert "assumed: base pass@1 0.3" in done.stdout
    assert "problems needed for power 0.9: about" in done.stdout
    assert power(*quick, "--power", "0.9").stdout == done.stdout, "a seed, so the same table"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of 300 problems, with 16 samples each."""
    random = np.random.default_rng(0)
    population = assumed(16, 0.3, 0.8, 0.1, 0.7, random, size=300)
    sides = [
        [
            ProblemCounts(f"p{at}", "", n=16, correct=int(c), wrong=16 - int(c))
            for at, c in enumerate(random.binomial(16, p))
        ]
        for p in (population.base, population.tuned)
    ]
    config = EvalConfig(samples=16, k=(1, 16), bootstrap=200)
    name = {"fork_density": None, "temperature": 1.0, "seed": 0}
    models = [
        cells(CellName.model_validate({**name, "tuned": tuned}), inputs, config)
        for tuned, inputs in ((False, CellInputs(sides[0])), (True, CellInputs(sides[1], sides[0])))
    ]
    folder = tmp_path_factory.mktemp("results")
    summary = a_summary([], [])
    whole = summary.model_copy(update={"base": tuple(models[0]), "cells": tuple(models[1])})
    (folder / "summary.json").write_text(json.dumps(whole.as_json()))
    return folder


@pytest.mark.parametrize("file", ["", "summary.json"])
def test_problems_of_a_finished_comparison_are_an_example(comparison: Path, file: str) -> None:
    done = power("--from", str(comparison / file), "--loss", "0.1", "--problems", "300")
    assert (done.returncode, done.stderr) == (0, "")
    assert "300 problems with 16 samples; measured change at k=16: −0." in done.stdout
    (row,) = rows(done.stdout).values()
    assert len(row) == 6, "16, 32 and 64 samples"
    assert 0.5 < float(row[0]) <= 1


def test_of_several_models_the_one_with_the_widest_limits_on_all_problems_is_taken(
    comparison: Path, tmp_path: Path
) -> None:
    written = json.loads((comparison / "summary.json").read_text())
    (cell,) = written["cells"]
    wide = json.loads(json.dumps({**cell, "n_problems": 299}))
    wide["delta_to_base"]["16"]["high"] += 0.5
    subset = {**wide, "subset": "hard", "n_problems": 7}
    subset["delta_to_base"] = {"16": {**wide["delta_to_base"]["16"], "high": 1.0}}
    written["cells"] = [cell, subset, wide, cell]
    (tmp_path / "summary.json").write_text(json.dumps(written))
    question = Question.of(load(None, [f"power.result={tmp_path}", "power.loss=0.1"]))
    assert ": 299 problems with 16 samples" in question.assumptions


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (
            ("--k", "64", "--samples", "32"),
            "needs at least 64 samples of each problem: got 32",
        ),
        (("--k", "many"), "power.k: got 'many'"),
        (("--loss", "0"), "power.loss: got '0'"),
        (("--loss", "2"), "power.loss: got '2'"),
        (("--power", "1"), "power.power: got '1'"),
        (("--problems", "5"), "power.problems"),
        (("--problems", "100;200"), "power.problems"),
        (("--loss", "0.9"), "no problems can meet these assumptions"),
        (("--k", "8", "power.pass_at_k=0.2"), "pass@8 must be above pass@1=0.3"),
        (("--from", "/no/such/folder"), "the folder has no results of a study"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_line(
    arguments: tuple[str, ...], part: str
) -> None:
    done = power(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert part in line


def test_results_without_paired_counts_are_refused_with_what_to_do(
    comparison: Path, tmp_path: Path
) -> None:
    written = json.loads((comparison / "summary.json").read_text())
    for cell in written["cells"]:
        del cell["paired_counts"]
    (tmp_path / "summary.json").write_text(json.dumps(written))
    done = power("--from", str(tmp_path))
    assert done.returncode == 2
    assert (
        "cells have no paired counts" in done.stderr and "run the comparison again" in done.stderr
    )
