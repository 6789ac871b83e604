"""The line: what one trial made is found by the next, and its numbers are those of its samples."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import AXES, DecoderConfig, StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.remote.objects import Objects
from forkdiv.core.store import Store
from forkdiv.coverage import summary
from forkdiv.data import dataset
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score import verdicts
from forkdiv.tasks.registry import build
from forkdiv.train import sft_run
from tests.checkpoints import with_norm
from tests.fakes import FakeSampler, an_eval
from tests.tuning.pipelines import BASE, SETTINGS, a_line, base, faithful, true_chances
from tuning.space import Point, at, axes
from tuning.tracked_metrics import headline_metrics, tracked_metrics
from tuning.trial import Pipeline, TrialResult

BASE_POINT = Point(0.7, 0, tuned=False)
TUNED_POINT = Point(0.7, 0, settings=(("fork_density", 0.5),))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint that is not the base: its output layer a little sharper."""
    return open_checkpoint(with_norm(tmp_path_factory.mktemp("tuned") / "checkpoint", 1.3))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished")


@pytest.fixture(scope="module")
def results(finished: Path, tuned: Checkpoint) -> list[TrialResult]:
    """The base's trial and a tuned one's, at temperature 0.7."""
    line = a_line(finished, FakeSampler())
    return [line.run(BASE_POINT), compared(line, TUNED_POINT, tuned)]


def compared(line: Pipeline, point: Point, checkpoint: Checkpoint) -> TrialResult:
    study: StudyConfig = at(line.study, point)
    return line.compared(study, point, {4: checkpoint})


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
    line.run(Point(1.0, 0, tuned=False))
    assert asked(sampler) == 1
    compared(line, Point(1.0, 0, settings=(("fork_density", 0.5),)), tuned)
    assert asked(sampler) == 2
    compared(
        line, Point(1.0, 0, settings=(("fork_density", 0.0),)), Checkpoint(tuned.path, "another")
    )
    assert asked(sampler) == 3
    compared(line, TUNED_POINT, tuned)
    assert asked(sampler) == 5  # another temperature is another set on both sides


def test_a_repeated_trial_draws_nothing_and_gives_the_same_result(
    finished: Path, results: list[TrialResult], tuned: Checkpoint
) -> None:
    sampler = FakeSampler()
    again = compared(a_line(finished, sampler), TUNED_POINT, tuned)
    assert sampler.asked == []
    assert (again.cells, again.fingerprint) == (results[1].cells, results[1].fingerprint)


def test_a_trial_on_another_host_finds_everything_on_the_storage_and_downloads_no_weights(
    tmp_path: Path, url: str, tuned: Checkpoint, results: list[TrialResult]
) -> None:
    """The tuned checkpoint is one of the store, as that of a training run is."""
    trained = Identity("train", {"examples": 1})

    def copied(folder: Path) -> None:
        shutil.copytree(tuned.path, folder / "epoch-0004")

    def on_host(name: str, sampler: FakeSampler) -> tuple[Pipeline, Checkpoint]:
        line = a_line(tmp_path / name, sampler, f"place.store={url}")
        line.store = Store.of(line.study.place)
        run = line.store.obtain(trained, copied)
        return line, Checkpoint(run.path / "epoch-0004", tuned.fingerprint)

    line, checkpoint = on_host("a", FakeSampler())
    first = compared(line, TUNED_POINT, checkpoint)
    assert (first.cells, first.fingerprint) == (results[1].cells, results[1].fingerprint)
    before = {one.key: one.modified for one in Objects(url).listed()}
    sampler = FakeSampler()
    line, checkpoint = on_host("b", sampler)
    again = compared(line, TUNED_POINT, checkpoint)
    assert sampler.asked == [] and again.cells == first.cells
    assert {one.key: one.modified for one in Objects(url).listed()} == before, "nothing is written"
    assert not list((tmp_path / "b").rglob("*.safetensors"))
    # what reads weights brings them: the probabilities at another temperature
    other = Evaluation.of(at(line.study, Point(1.3, 0, tuned=False)))
    assert line.exact(other, checkpoint) is not None
    assert len(list((tmp_path / "b").rglob("*.safetensors"))) == 1


def test_more_samples_or_problems_draw_what_is_missing_only(
    finished: Path, results: list[TrialResult]
) -> None:
    sampler = FakeSampler()
    longer = a_line(finished, sampler, "eval.samples=12").run(BASE_POINT)
    assert sampler.drawn == 10 * 4
    sampler = FakeSampler()
    wider = a_line(finished, sampler, "eval.samples=12", "eval.problems=20").run(BASE_POINT)
    assert sampler.drawn == 10 * 12
    assert len({results[0].fingerprint, longer.fingerprint, wider.fingerprint}) == 3


def test_samples_of_the_models_own_chances_agree_with_exact_values(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    settings = ["eval.samples=64", "eval.problems=20"]
    line = a_line(tmp_path, FakeSampler(chance=faithful), *settings)
    points = [Point(1.0, 0, tuned=False), Point(1.0, 0, settings=(("fork_density", 0.5),))]
    results = [line.run(points[0]), compared(line, points[1], tuned)]
    for result, path in zip(results, (BASE, tuned.path), strict=True):
        cell = result.cells[-1]
        known = np.mean(list(true_chances(path, 1.0).values()))
        assert cell.exact_pass_at[1] == pytest.approx(known)
        assert all(one.agreement and one.agreement.agrees for one in result.cells)
    assert results[0].cells[-1].delta_to_base == {}
    assert results[1].cells[-1].delta_to_base.keys() == {1, 2, 4, 8, 16, 32, 64}
    study = line.study
    done = summary.assemble(study, "f", axes(study), [result.cells for result in results], {})
    summary.check(done)
    assert (len(done.base), len(done.cells)) == (3, 3)


def test_samples_of_another_model_disagree_with_exact_values(tmp_path: Path) -> None:
    sampler = FakeSampler(chance=lambda checkpoint, problem: 0.9)
    line = a_line(tmp_path, sampler, "eval.samples=64", "eval.problems=20")
    result = line.run(Point(1.0, 0, tuned=False))
    with pytest.raises(InvalidResult, match=r"base T=1 all: sampled pass@1 differs from exact"):
        summary.check(summary.assemble(line.study, "f", axes(line.study), [result.cells], {}))


def test_what_happens_at_the_forks_is_known_of_whole_distributions_only(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    line = a_line(tmp_path, FakeSampler(), "decoder.top_p=0.95")
    cell = compared(line, Point(1.0, 0, settings=(("fork_density", 0.5),)), tuned).cells[-1]
    assert (cell.agreement is None, cell.forks) == (False, None)
    assert set(cell.exact_pass_at) == set(cell.pass_at)


def test_first_tokens_have_exact_values_and_trees_have_none(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    point = Point(1.0, 0, decoder="one", settings=(("fork_density", 0.5),))
    for knob, known in (("first_tokens: 2", True), ("tree_samples: 4", False)):
        line = a_line(tmp_path, FakeSampler(), f"decoders={{one: {{{knob}}}}}")
        cell = compared(line, point, tuned).cells[-1]
        assert cell.decoder == "one"
        assert (cell.agreement is not None) == bool(cell.exact_pass_at) == known
        assert set(cell.pass_at) == {1, 2, 4, 8} == set(cell.delta_to_base)
        # a vote and distinct solutions are of any k samples, which these are not
        assert (cell.distinct_at, cell.majority_at, cell.modes) == ({}, {}, {})


def test_failed_samples_make_the_cell_invalid_until_the_next_trial_draws_them(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    problem = build(load(None, SETTINGS).task).heldout("test", 2)[1]
    unlucky = FakeSampler(fails=lambda request: request.problem == problem)
    result = compared(
        a_line(tmp_path, unlucky), Point(1.0, 0, settings=(("fork_density", 0.5),)), tuned
    )
    assert {c.subset: c.errors for c in result.cells} == {
        "signed": 0,
        "unsigned": 16,
        "all": 16,
    }
    assert [c.valid for c in result.cells] == [True, False, False]
    metrics = headline_metrics(result.cells)
    assert metrics["valid"] == 0 and "pass_at_1" not in metrics and "signed_pass_at_1" in metrics
    lucky = FakeSampler()
    result = compared(
        a_line(tmp_path, lucky), Point(1.0, 0, settings=(("fork_density", 0.5),)), tuned
    )
    assert lucky.drawn == 16 and all(c.valid for c in result.cells)


def test_a_result_crosses_processes_as_json(results: list[TrialResult]) -> None:
    for result in results:
        plain = result.as_json()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert TrialResult.of_json(plain) == result
        assert plain["cells"][0]["pass_at"].keys() == {"1", "2", "4", "8"}
        assert result.seconds.keys() == {"sample", "score", "exact", "coverage"}


def test_metrics_are_flat_numbers_whose_names_mlflow_takes(results: list[TrialResult]) -> None:
    of_base, of_tuned = (tracked_metrics(result.cells) for result in results)
    groups = "reliability|guess|forks|all|signed|unsigned"
    for metrics in (of_base, of_tuned):
        assert all(isinstance(value, int | float) for value in metrics.values())
        assert all(re.fullmatch(rf"(({groups})/)?[a-z0-9_.]+", name) for name in metrics)
    only_tuned = of_tuned.keys() - of_base.keys()
    assert {"delta_pass_at_8", "signed/delta_pass_at_1"} <= only_tuned
    assert all("delta" in name for name in only_tuned)
    assert {"all/pass_at_4", "unsigned/pass_at_1", "signed/exact_pass_at_1"} <= of_base.keys()


def test_few_metrics_are_without_a_group(results: list[TrialResult]) -> None:
    names = [name for name in tracked_metrics(results[1].cells) if "/" not in name]
    assert sorted(names) == ["delta_pass_at_1", "delta_pass_at_8", "pass_at_1", "pass_at_8"]


def test_a_trial_is_sampled_at_its_points_temperature(
    results: list[TrialResult], tuned: Checkpoint
) -> None:
    study = load(None, SETTINGS)
    for result, checkpoint in zip(results, (base(), tuned), strict=True):
        decoder = DecoderConfig(temperature=0.7)
        what = sample_sets.identity(
            an_eval(study.task, None, decoder, study.prompt, study.eval), checkpoint
        )
        assert result.fingerprint == verdicts.identity(what, 10, 8).fingerprint
        assert {cell.temperature for cell in result.cells} == {0.7}


def test_cells_have_counts_by_mode(results: list[TrialResult]) -> None:
    for result in results:
        for cell in result.cells:
            (mode,) = cell.modes  # the toy sampler tells all of them forward
            assert (mode, cell.modes[mode].share) == ("forward", 1.0)
            for k, told in cell.modes[mode].pass_at.items():
                whole = cell.pass_at[k]
                assert whole and told.value == pytest.approx(whole.value)


def test_cells_at_forks_agree_with_exact_values(
    results: list[TrialResult],
) -> None:
    for result in results:
        for cell in result.cells:
            forks = cell.forks
            assert forks
            assert forks.pass_at == pytest.approx(cell.exact_pass_at)
            assert all(forks.fork_pass_at[k] >= v for k, v in forks.pass_at.items())
            kinds = {"signed": [True], "unsigned": [False], "all": [True, False]}
            assert [one.signed for one in forks.depths] == kinds[cell.subset]
        metrics = tracked_metrics(result.cells)
        assert 0 < metrics["forks/unsigned_fork_accuracy"] < 1
        assert metrics["forks/signed_fork_entropy"] > 0


def test_cells_carry_every_axis_and_whether_the_model_was_tuned(results: list[TrialResult]) -> None:
    for result, tuned in zip(results, (False, True), strict=True):
        for cell in result.cells:
            assert cell.as_json().keys() >= {*AXES, "temperature", "seed"}
            assert cell.axes.keys() == {*AXES}
            assert cell.tuned is tuned


def test_data_is_repaired_where_the_point_says_so_and_left_alone_elsewhere(tmp_path: Path) -> None:
    line = a_line(tmp_path, FakeSampler(), "task.valid=2", "dataset.examples=40")
    plain, repaired = (
        line.data(at(line.study, Point(1.0, 0, settings=(("synthesis", way),))))
        for way in ("none", "enumerator")
    )
    assert plain == dataset.obtain_sft(line.store, build(line.study.task), line.study.dataset)
    assert repaired.fingerprint != plain.fingerprint
    assert repaired.record["parents"] == {"dataset": plain.fingerprint}
    cards = [dataset.read_card(one.path) for one in (plain, repaired)]
    assert [card["examples"] for card in cards] == [40, 40]
    assert cards[1]["synthesis"]["share_covered_after"] == 1
    assert line.sampler == FakeSampler(), "listed solutions need no sampler"


def test_a_task_that_cannot_list_its_solutions_has_no_exact_values(tmp_path: Path) -> None:
    line = a_line(tmp_path, FakeSampler(), "task={kind: counterfactual_arithmetic}")
    assert line.exact(Evaluation.of(line.study), base()) is None


def test_a_model_with_thinking_has_no_exact_values_and_verdicts_of_its_own(tmp_path: Path) -> None:
    plain, thinking = (
        a_line(tmp_path, FakeSampler(), *settings, "decoder.temperature=1.0")
        for settings in ((), ("eval.thinking_end='</think>'",))
    )
    evaluation = Evaluation.of(thinking.study)
    assert plain.at_forks(Evaluation.of(plain.study), base()) is not None
    assert thinking.at_forks(evaluation, base()) is None
    assert thinking.exact(evaluation, base()) is None
    samples = sample_sets.identity(evaluation, base())
    assert samples == sample_sets.identity(Evaluation.of(plain.study), base())
    results = [one.compared(one.study, Point(1.0, 0), {4: base()}) for one in (plain, thinking)]
    assert results[0].fingerprint != results[1].fingerprint
    assert results[0].cells[0].pass_at == results[1].cells[0].pass_at


def test_a_checkpoint_evaluated_while_training_goes_on_is_not_sampled_again(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    sampler = FakeSampler()
    line = a_line(tmp_path, sampler)
    point = Point(1.0, 0, settings=(("fork_density", 0.5),))
    study, early = at(line.study, point), Checkpoint(tuned.path, "early")
    evaluate = line.evaluate_during_training(study, point)
    assert evaluate
    evaluate(1, early)
    assert asked(sampler) == 2  # the checkpoint and the base
    assert line.drawn == sampler.drawn
    line.compared(study, point, {1: early, 4: tuned})
    assert asked(sampler) == 3  # the last one alone


def test_nothing_is_evaluated_ahead_where_a_checkpoint_between_is_measured(tmp_path: Path) -> None:
    line = a_line(tmp_path, FakeSampler(), "interpolation=0.5")
    assert (
        line.evaluate_during_training(line.study, Point(1.0, 0, settings=(("fork_density", 0.5),)))
        is None
    )


def test_earlier_checkpoints_of_a_run_are_its_dynamics(tmp_path: Path, tuned: Checkpoint) -> None:
    line = a_line(tmp_path, FakeSampler())
    point = Point(1.0, 0, settings=(("fork_density", 0.5),))
    saved: dict[float, Checkpoint] = {
        1: Checkpoint(tuned.path, "early"),
        2: Checkpoint(tuned.path, "later"),
        4: tuned,
    }
    result = line.compared(at(line.study, point), point, saved)
    assert [cell.epoch for cell in result.dynamics] == [1, 1, 1, 2, 2, 2]
    assert {cell.epoch for cell in result.cells} == {4}
    alone = compared(line, point, tuned)
    assert alone.cells == result.cells and alone.dynamics == []


def test_validation_problems_are_sampled_for_choosing_and_only_where_asked(
    tmp_path: Path, tuned: Checkpoint
) -> None:
    sampler = FakeSampler()
    line = a_line(tmp_path, sampler, "eval.validation_problems=4")
    result = compared(line, Point(1.0, 0, settings=(("fork_density", 0.5),)), tuned)
    assert sampler.drawn == 2 * 10 * 8 + 4 * 8
    assert set(result.choice) == {"signed", "unsigned", "all"}
    assert {request.problem.split for request in sampler.asked} == {"test", "validation"}


class GivingWay(FakeSampler):
    """A sampler whose engine shares its memory; notes when it is free."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__()
        self.happened = happened

    @contextmanager
    def giving_way(self, name: str) -> Iterator[str]:
        self.happened.append("freed")
        yield "stopped"
        self.happened.append("taken back")


@pytest.mark.parametrize(
    ("while_training", "wanted"),
    [("stop", ["freed", "trained", "taken back"]), ("beside", ["trained"])],
)
def test_a_run_is_trained_while_the_engine_that_shares_its_memory_has_freed_it(
    while_training: str, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def obtain(*_: Any, turn: Callable[[], AbstractContextManager[object]], **__: Any) -> None:
        with turn():
            happened.append("trained")

    monkeypatch.setattr(sft_run, "obtain", obtain)
    setting = f"place.engine.while_training={while_training}"
    line = a_line(tmp_path, GivingWay(happened), setting, "dataset.examples=16")
    line.trained(line.study)
    assert happened == wanted
