"""Each model under the decoder that was best for it on other problems than it is judged by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forkdiv.core.config.study import EvalConfig
from forkdiv.coverage import stats
from tests.summaries import a_cell, made_invalid, read_cell
from tuning.best_decoder import best_decoders
from tuning.space import Point
from tuning.trial import TrialResult

CONFIG = EvalConfig(problems=4, samples=8, k=(1, 8), bootstrap=200, validation_problems=4)


def trial(
    temperature: float, choice: float | None, correct: list[int], tuned: bool = True
) -> TrialResult:
    known = {} if choice is None else {"all": {"1": choice, "8": choice}}
    return TrialResult(
        point=Point(
            temperature, 0, tuned=tuned, settings=(("fork_density", 0.5),) if tuned else ()
        ),
        fingerprint="f",
        cells=[read_cell(a_cell(0.5))],
        checkpoint="c",
        passed={str(k): stats.pass_at_k(8, correct, k).tolist() for k in (1, 8)},
        subsets=["all"] * 4,
        choice=known,
    )


BASE = [trial(0.7, 0.2, [1] * 4, tuned=False), trial(1.0, 0.4, [4] * 4, tuned=False)]


def test_each_model_is_judged_at_its_own_best_temperature() -> None:
    tuned = [trial(0.7, 0.9, [8] * 4), trial(1.0, 0.1, [8, 0, 0, 0])]
    one, other = best_decoders([*BASE, *tuned], CONFIG)
    assert (one.base_temperature, one.tuned_temperature) == (1.0, 0.7)
    assert one.delta.value == pytest.approx(0.5)
    assert (one.k, other.k, one.axes["fork_density"], one.subset) == (1, 8, 0.5, "all")


def test_equally_good_temperatures_are_settled_by_the_one_nearest_1() -> None:
    tuned = [trial(0.7, 0.9, [8] * 4), trial(1.0, 0.9, [0] * 4)]
    assert best_decoders([*BASE, *tuned], CONFIG)[0].tuned_temperature == 1.0


def test_an_invalid_trial_is_never_chosen() -> None:
    tuned = [trial(0.7, 0.9, [8] * 4), trial(1.0, 0.1, [4] * 4)]
    tuned[0].cells[0] = read_cell(made_invalid(a_cell(0.5)))
    assert best_decoders([*BASE, *tuned], CONFIG)[0].tuned_temperature == 1.0


def test_there_is_no_row_without_a_choice_of_decoders() -> None:
    assert best_decoders([BASE[1], trial(1.0, 0.9, [8] * 4)], CONFIG) == []
    unchosen = [trial(t, None, [8] * 4, tuned) for t in (0.7, 1.0) for tuned in (False, True)]
    assert best_decoders(unchosen, CONFIG) == []


def test_decoders_are_chosen_as_temperatures_are() -> None:
    def under(name: str, one: TrialResult) -> TrialResult:
        return replace(one, point=replace(one.point, decoder=name))

    base = [under("plain", BASE[1]), under("forced", trial(1.0, 0.1, [8] * 4, tuned=False))]
    tuned = [under("plain", trial(1.0, 0.1, [8] * 4)), under("forced", trial(1.0, 0.9, [2] * 4))]
    (one, _) = best_decoders([*base, *tuned], CONFIG)
    assert (one.base_decoder, one.tuned_decoder) == ("plain", "forced")
    assert one.delta.value == pytest.approx(2 / 8 - 4 / 8)
