"""The samples that a report shows are those of the store, with the verdicts that were counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.errors import InvalidResult
from tests.fakes import FakeSampler
from tests.tuning.pipelines import a_line, base
from tuning import shown_samples
from tuning.models import Model, reported
from tuning.space import Point


def drawn(root: Path, *overrides: str) -> tuple[Model, list[str]]:
    pipeline = a_line(root, FakeSampler(), *overrides)
    result = pipeline.run(Point(pipeline.study.decoder.temperature, 0, tuned=False))
    counts = [f"{cell.subset} {cell.n_drawn}" for cell in result.cells]
    return Model("base", pipeline.study, base()), counts


def test_the_verdicts_shown_are_those_that_were_counted(tmp_path: Path) -> None:
    pipeline = a_line(tmp_path, FakeSampler())
    study, store = pipeline.study, pipeline.store
    result = pipeline.run(Point(study.decoder.temperature, 0, tuned=False))
    model = Model("base", study, base())
    made = shown_samples.shown_samples("s", [model], store)
    (shown,) = made.models
    assert len(shown.problems) == made.all_problems == study.eval.problems
    samples = study.eval.samples * study.eval.problems
    assert sum(sum(one.counts.values()) for one in shown.problems) == samples
    correct = sum(one.counts.get("correct", 0) for one in shown.problems)
    whole = result.cells[-1].pass_at[1]
    assert whole and correct / samples == pytest.approx(whole.value)
    for one in shown.problems:
        listed = sum(response.times for response in one.responses)
        assert (listed == sum(one.counts.values())) == (one.more == 0)


def test_only_so_many_samples_are_graded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = drawn(tmp_path)
    monkeypatch.setattr(shown_samples, "MAX_GRADED", 3 * model.study.eval.samples)
    monkeypatch.setattr(shown_samples, "MAX_RESPONSES", 1)
    pipeline = a_line(tmp_path, FakeSampler())
    made = shown_samples.shown_samples("s", [model], pipeline.store)
    assert [len(one.problems) for one in made.models] == [3]
    for one in made.models[0].problems:
        kinds = [response.outcome for response in one.responses]
        assert sorted(kinds) == sorted(one.counts), "one response of every verdict"


def test_samples_that_are_not_there_are_named(tmp_path: Path) -> None:
    pipeline = a_line(tmp_path, FakeSampler())
    with pytest.raises(InvalidResult, match="base has fewer than 8 samples for"):
        shown_samples.shown_samples("s", [Model("base", pipeline.study, base())], pipeline.store)


def test_a_report_shows_each_model_once_at_the_temperature_nearest_1(tmp_path: Path) -> None:
    model, _ = drawn(tmp_path)

    def at(temperature: float) -> Model:
        decoder = model.study.decoder.at(temperature)
        return Model("base", model.study.model_copy(update={"decoder": decoder}), base())

    shown = reported([at(0.5), at(0.9), at(1.4), at(0.9)])
    assert [one.study.decoder.temperature for one in shown] == [0.9]
