"""The line: what one trial made is found by the next, and its numbers are those of its samples."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from forkdiv import exact, sample, score, summary
from forkdiv.artifacts import Store
from forkdiv.checkpoint import Checkpoint, open_checkpoint
from forkdiv.config import DecoderConfig, StudyConfig, load
from forkdiv.errors import InvalidResult
from forkdiv.model import load_model
from forkdiv.progress import Progress
from forkdiv.records import Problem
from forkdiv.tasks import build
from tests.fakes import FakeSampler
from tuning.space import Point, at
from tuning.sweep import headline_metrics, params, tags
from tuning.trial import Line, TrialResult

BASE = Path(__file__).parents[1] / "forkdiv/base/graph-d3-l3"
SETTINGS = ["eval.problems=10", "eval.samples=8", "eval.bootstrap=100", f"base={BASE}"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint that is not the base: its output layer a little sharper."""
    folder = tmp_path_factory.mktemp("tuned") / "checkpoint"
    shutil.copytree(BASE, folder)
    model = load_model(BASE)
    model.model.norm.weight.data *= 1.3
    model.save_pretrained(folder)
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished")


@pytest.fixture(scope="module")
def results(finished: Path, tuned: Checkpoint) -> list[TrialResult]:
    """The base's trial and a tuned one's, at temperature 0.7."""
    line = a_line(finished, FakeSampler())
    return [line.walk(Point(None, 0.7, 0)), compared(line, Point(0.5, 0.7, 0), tuned)]


@cache
def base() -> Checkpoint:
    return open_checkpoint(BASE)


@cache
def true_chances(path: Path, temperature: float) -> dict[str, float]:
    study = load(None, SETTINGS)
    problems = build(study.task).heldout("test", 20)
    decoder = DecoderConfig(temperature=temperature)
    values = exact.probabilities(study.task, problems, open_checkpoint(path), decoder)
    return {problem.id: float(p) for problem, p in zip(problems, values, strict=True)}


def faithful(checkpoint: Checkpoint, problem: Problem) -> float:
    """The model's own chance of a correct answer at temperature 1."""
    return true_chances(checkpoint.path, 1.0)[problem.id]


def a_line(root: Path, sampler: FakeSampler, *settings: str) -> Line:
    study = load(None, [*SETTINGS, f"place.root={root}", *settings])
    return Line(study, Store(root / "store"), sampler, Progress(root / "progress.jsonl"))


def compared(line: Line, point: Point, checkpoint: Checkpoint) -> TrialResult:
    study: StudyConfig = at(line.study, point)
    return line.compared(study, point, base(), checkpoint, None)


def asked(sampler: FakeSampler, n: int = 8) -> int:
    """How many whole sets of samples were drawn."""
    whole, rest = divmod(sampler.drawn, 10 * n)
    assert rest == 0
    return whole


def test_the_base_is_sampled_once_for_its_own_trial_and_every_tuned_one(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    sampler = FakeSampler()
    line = a_line(tmp_path, sampler)
    line.walk(Point(None, 1.0, 0))
    assert asked(sampler) == 1
    compared(line, Point(0.5, 1.0, 0), tuned)
    assert asked(sampler) == 2
    compared(line, Point(0.0, 1.0, 0), Checkpoint(tuned.path, "another"))
    assert asked(sampler) == 3
    compared(line, Point(0.5, 0.7, 0), tuned)
    assert asked(sampler) == 5  # another temperature is another set on both sides


def test_a_trial_that_is_repeated_draws_nothing_and_says_the_same(
    finished: Path, results: list[TrialResult], tuned: Checkpoint
) -> None:
    sampler = FakeSampler()
    again = compared(a_line(finished, sampler), Point(0.5, 0.7, 0), tuned)
    assert sampler.asked == []
    assert (again.cells, again.fingerprint) == (results[1].cells, results[1].fingerprint)


def test_more_samples_or_problems_draw_what_is_missing_only(
    finished: Path, results: list[TrialResult]
) -> None:
    point = Point(None, 0.7, 0)
    sampler = FakeSampler()
    longer = a_line(finished, sampler, "eval.samples=12").walk(point)
    assert sampler.drawn == 10 * 4
    sampler = FakeSampler()
    wider = a_line(finished, sampler, "eval.samples=12", "eval.problems=20").walk(point)
    assert sampler.drawn == 10 * 12
    assert len({results[0].fingerprint, longer.fingerprint, wider.fingerprint}) == 3


def test_samples_of_the_models_own_chances_agree_with_exact_values(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    settings = ["eval.samples=64", "eval.problems=20"]
    line = a_line(tmp_path, FakeSampler(chance=faithful), *settings)
    results = [line.walk(Point(None, 1.0, 0)), compared(line, Point(0.5, 1.0, 0), tuned)]
    for result, path in zip(results, (BASE, tuned.path), strict=True):
        cell = result.cells[-1]
        known = np.mean(list(true_chances(path, 1.0).values()))
        assert cell["exact_pass_at"]["1"] == pytest.approx(known)
        assert all(one["agreement"]["agrees"] for one in result.cells)
    assert results[0].cells[-1]["delta_to_base"] == {}
    assert results[1].cells[-1]["delta_to_base"].keys() == {"1", "2", "4", "8", "16", "32", "64"}
    study = line.study
    done = summary.assemble(study, "f", [result.cells for result in results], {})
    summary.check(done)
    assert (len(done["base"]), len(done["cells"])) == (3, 3)


def test_samples_of_another_model_are_found_out(tmp_path: Path) -> None:
    sampler = FakeSampler(chance=lambda checkpoint, problem: 0.9)
    line = a_line(tmp_path, sampler, "eval.samples=64", "eval.problems=20")
    result = line.walk(Point(None, 1.0, 0))
    with pytest.raises(InvalidResult, match=r"base T=1 all: sampled pass@1 is .* off exact"):
        summary.check(summary.assemble(line.study, "f", [result.cells], {}))


def test_no_exact_values_where_the_decoder_cuts_the_distribution(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    line = a_line(tmp_path, FakeSampler(), "decoder.top_p=0.95")
    cell = compared(line, Point(0.5, 1.0, 0), tuned).cells[-1]
    assert (cell["exact_pass_at"], cell["agreement"]) == ({}, None)


def test_failed_samples_make_the_cell_invalid_and_the_next_trial_mends_it(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    problem = build(load(None, SETTINGS).task).heldout("test", 2)[1]
    unlucky = FakeSampler(fails=lambda request: request.problem == problem)
    result = compared(a_line(tmp_path, unlucky), Point(0.5, 1.0, 0), tuned)
    assert {c["subset"]: c["errors"] for c in result.cells} == {
        "signed": 0,
        "unsigned": 16,
        "all": 16,
    }
    assert [c["valid"] for c in result.cells] == [True, False, False]
    metrics = headline_metrics(result.cells)
    assert metrics["valid"] == 0 and "pass_at_1" not in metrics and "signed_pass_at_1" in metrics
    lucky = FakeSampler()
    result = compared(a_line(tmp_path, lucky), Point(0.5, 1.0, 0), tuned)
    assert lucky.drawn == 16 and all(c["valid"] for c in result.cells)


def test_a_result_crosses_processes_as_json(results: list[TrialResult]) -> None:
    for result in results:
        plain = asdict(result)
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert result.seconds.keys() == {"sample", "score", "exact"}


def test_metrics_are_flat_numbers_whose_names_mlflow_takes(results: list[TrialResult]) -> None:
    of_base, of_tuned = (headline_metrics(result.cells) for result in results)
    for metrics in (of_base, of_tuned):
        assert all(isinstance(value, int | float) for value in metrics.values())
        assert all(name.replace("_", "").isalnum() for name in metrics)
    only_tuned = of_tuned.keys() - of_base.keys()
    assert {"delta_pass_at_8", "signed_delta_pass_at_1"} <= only_tuned
    assert all("delta" in name for name in only_tuned)
    assert {"pass_at_8", "unsigned_pass_at_1", "signed_exact_pass_at_1"} <= of_base.keys()


def test_a_trial_is_sampled_at_its_points_temperature(
    results: list[TrialResult], tuned: Checkpoint
) -> None:
    study = load(None, SETTINGS)
    for result, checkpoint in zip(results, (base(), tuned), strict=True):
        what = sample.identity(study.task, study.eval, checkpoint, DecoderConfig(temperature=0.7))
        assert result.fingerprint == score.identity(what, 10, 8).fingerprint
        assert {cell["temperature"] for cell in result.cells} == {0.7}


def test_params_are_the_axes_as_numbers_and_the_base_has_no_density() -> None:
    assert params(Point(0.5, 0.7, 1)).items() >= {"fork_density": 0.5, "temperature": 0.7}.items()
    assert "fork_density" not in params(Point(None, 0.7, 1))
    values = [*params(Point(0.5, 0.7, 1)).values(), *params(Point(None, 0.7, 1)).values()]
    assert all(isinstance(value, int | float) for value in values)


def test_tags_hold_the_effective_decoder() -> None:
    study = load(
        None, [*SETTINGS, "decoder.top_p=0.9", "decoder.temperature=0.5", "sweep.seed=[1]"]
    )
    held = tags(at(study, Point(0.25, 0.7, 1)))
    assert (held["decoder.top_p"], held["decoder.temperature"]) == ("0.9", "0.7")
    assert (held["dataset.fork_density"], held["sft.seed"]) == ("0.25", "1")
