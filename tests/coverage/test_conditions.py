"""Conditions on a comparison: read before it runs, decided by limits."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.errors import UserError
from forkdiv.core.results import Interval, Summary
from forkdiv.coverage.conditions import Condition, Verdict, decide, model_names, parse, status
from forkdiv.coverage.metric_names import Metrics
from tests.summaries import a_cell, a_summary

CONFIG = EvalConfig(samples=64)
METRICS = Metrics.to_measure(CONFIG, independent=True, has_answers=True)
MODELS = model_names("step", (100, 200), has_base=True)


def read(text: str, metrics: Metrics = METRICS, models: list[str] = MODELS) -> Condition:
    return parse(text, metrics, models)


def refusal(text: str, metrics: Metrics = METRICS, models: list[str] = MODELS) -> str:
    with pytest.raises(UserError) as refused:
        read(text, metrics, models)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def result(low: float, high: float, **more: Any) -> Summary:
    """A base and a tuned model whose change at k=16 has these limits."""
    change = {1: (0.0, -0.1, 0.1), 16: ((low + high) / 2, low, high)}
    return a_summary([a_cell(0.5, changes=change, **more)])


@pytest.mark.parametrize(
    ("text", "model", "metric", "op", "threshold", "of_change"),
    [
        ("pass@64 < base - 0.02", "tuned", "pass@64", "<", -0.02, True),
        ("pass@64<base-.02", "tuned", "pass@64", "<", -0.02, True),
        ("  pass@1 >= base+0.1 ", "tuned", "pass@1", ">=", 0.1, True),
        ("pass@1 < base", "tuned", "pass@1", "<", 0.0, True),
        ("majority@8 > 0.5", "tuned", "majority@8", ">", 0.5, False),
        ("cover@.50 <= 0.4", "tuned", "cover@0.5", "<=", 0.4, False),
        ("g-pass@16_0.75 < base", "tuned", "g-pass@16_0.75", "<", 0.0, True),
        ("g-pass@16_1.0 < base", "tuned", "g-pass@16_1", "<", 0.0, True),
        ("mg-pass@8 < base", "tuned", "mg-pass@8", "<", 0.0, True),
        ("step-200.pass@8 < base − 0.1", "step-200", "pass@8", "<", -0.1, True),
        ("base.pass@8 ≤ 0.1", "base", "pass@8", "<=", 0.1, False),
        ("tuned.above-guess@64 < -0.1", "tuned", "above-guess@64", "<", -0.1, False),
        ("distinct@64 < base - 3", "tuned", "distinct@64", "<", -3, True),
    ],
)
def test_a_condition_is_read(
    text: str, model: str, metric: str, op: str, threshold: float, of_change: bool
) -> None:
    assert read(text) == Condition(text.strip(), model, metric, op, threshold, of_change)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("pass@63 < base", "did you mean pass@64? Or set eval.k so that it has pass@63"),
        ("pass@3 < base", "did you mean pass@"),
        ("cover@0.6 < base", "did you mean cover@0.5? Or set eval.tau"),
        ("g-pass@16_0.6 < base", "did you mean g-pass@16_0.5?"),
        ("g-pass@20_0.75 < base", "did you mean g-pass@16_0.75?"),
        ("pas@64 < base", "did you mean pass@64?"),
        ("voting@8 < base", "correct the metric"),
        ("pass@64 < base - 2", "no change of pass@64 reaches"),
        ("pass@64 > 50", "0.02 means 2 of every 100 problems"),
        ("pass@64 < base - 2%", "the condition cannot be read"),
        ("pass@64 < 0.5 and pass@1 < 0.5", "the condition cannot be read"),
        ("pass@64", "METRIC OP base [+|- NUMBER]"),
        ("pass@64 == base", "the condition cannot be read"),
        ("pass@64 < tuned", "the condition cannot be read"),
        ("", "the condition cannot be read"),
        ("base.pass@64 < base", "the base on both sides"),
        ("step-300.pass@8 < base", "allowed: tuned, base, step-100, step-200"),
    ],
)
def test_what_is_not_a_condition_is_refused_with_what_is(text: str, part: str) -> None:
    assert part in refusal(text)


def test_without_a_base_only_numbers_can_be_compared_with() -> None:
    models = model_names("epoch", (0,), has_base=False)
    assert models == ["tuned"]
    assert "got no base" in refusal("pass@64 < base", models=models)
    assert not read("pass@64 < 0.5", models=models).of_change


def test_metrics_that_dependent_samples_or_verdicts_do_not_have_are_refused_with_the_reason() -> (
    None
):
    trees = Metrics.to_measure(CONFIG, independent=False, has_answers=True)
    assert "samples of a problem depend on each other" in refusal("cover@0.5 < base", trees)
    assert read("pass@64 < base", trees).metric == "pass@64"
    early = Metrics.to_measure(EvalConfig(samples=64, enough=4), True, True)
    assert "eval.enough" in refusal("majority@8 < base", early)
    unread = Metrics.to_measure(CONFIG, independent=True, has_answers=False)
    assert "have no answers" in refusal("majority@8 < base", unread)


@pytest.mark.parametrize(
    ("text", "limits", "verdict"),
    [
        ("pass@16 < base - 0.02", (-0.3, -0.1), Verdict.HOLDS),
        ("pass@16 < base - 0.02", (-0.3, -0.02), Verdict.UNDECIDED),
        ("pass@16 <= base - 0.02", (-0.3, -0.02), Verdict.HOLDS),
        ("pass@16 < base - 0.02", (-0.02, 0.1), Verdict.DOES_NOT_HOLD),
        ("pass@16 <= base - 0.02", (-0.02, 0.1), Verdict.UNDECIDED),
        ("pass@16 < base - 0.02", (-0.1, 0.1), Verdict.UNDECIDED),
        ("pass@16 > base", (0.01, 0.1), Verdict.HOLDS),
        ("pass@16 > base", (0.0, 0.1), Verdict.UNDECIDED),
        ("pass@16 >= base", (0.0, 0.1), Verdict.HOLDS),
        ("pass@16 >= base", (-0.1, -0.01), Verdict.DOES_NOT_HOLD),
    ],
)
def test_a_condition_holds_where_all_of_the_interval_fulfils_it(
    text: str, limits: tuple[float, float], verdict: Verdict
) -> None:
    metrics = Metrics.to_measure(EvalConfig(samples=16), True, True)
    assert decide(read(text, metrics), result(*limits)).verdict is verdict


@given(
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.floats(-0.4, 0.4).map(lambda x: round(x, 2)),
)
def test_a_condition_and_its_opposite_never_both_hold(
    op: str, one: float, other: float, at: float
) -> None:
    low, high = sorted((one, other))
    opposite = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}[op]
    done = result(low, high)
    verdicts = [
        decide(Condition("", "tuned", "pass@16", kind, at, True), done).verdict
        for kind in (op, opposite)
    ]
    assert sorted(verdicts) in ([Verdict.DOES_NOT_HOLD, Verdict.HOLDS], [Verdict.UNDECIDED] * 2)


def test_a_line_says_what_was_decided_and_why_with_numbers_that_do_not_contradict_it() -> None:
    metrics = Metrics.to_measure(EvalConfig(samples=16), True, True)
    loss = decide(read("pass@16 < base - 0.02", metrics), result(-0.3, -0.1))
    assert loss.line == (
        "fail-if pass@16 < base - 0.02: holds: the change of pass@16 from the base is −0.200, "
        "95% limits −0.300 to −0.100"
    )
    near = decide(read("pass@16 < base - 0.02", metrics), result(-0.3, -0.01996))
    assert near.verdict is Verdict.UNDECIDED
    assert "−0.30000 to −0.01996, which include −0.02000" in near.line
    value = decide(read("base.pass@16 >= 0.5", metrics), result(-0.3, -0.1))
    assert re.search(r"pass@16 of base is 0\.\d{3}, 95% limits 0\.\d{3} to 0\.\d{3}$", value.line)


def test_a_condition_on_the_base_is_about_the_base() -> None:
    metrics = Metrics.to_measure(EvalConfig(samples=16), True, True)
    done = result(-0.3, -0.1)
    (base,) = done.base
    better = base.model_copy(update={"pass_at": {16: Interval(value=0.9, low=0.8, high=1.0)}})
    done = done.model_copy(update={"base": (better,)})
    assert decide(read("base.pass@16 > 0.75", metrics), done).verdict is Verdict.HOLDS
    assert "is 0.900" in decide(read("base.pass@16 > 0.75", metrics), done).line


def test_checkpoints_of_a_run_are_named_by_epoch_or_step() -> None:
    written = result(-0.3, -0.1).as_json()
    (cell,) = written["cells"]
    early = {
        **cell,
        "epoch": 100,
        "delta_to_base": {"16": {"value": 0, "low": -0.01, "high": 0.01}},
    }
    written.update(unit="step", cells=[{**cell, "epoch": 200}], dynamics=[early])
    done = Summary.model_validate(written)
    verdicts = {
        model: decide(read(f"{model}.pass@16 < base - 0.05"), done).verdict
        for model in ("step-100", "step-200", "tuned")
    }
    assert verdicts == {
        "step-100": Verdict.DOES_NOT_HOLD,
        "step-200": Verdict.HOLDS,
        "tuned": Verdict.HOLDS,
    }


def test_results_without_the_metric_are_refused_with_those_they_have() -> None:
    with pytest.raises(
        UserError, match=r"not measured: got cover@0.5; allowed: metrics pass@1, 16"
    ):
        decide(read("cover@0.5 < base"), result(-0.3, -0.1))


def test_a_condition_that_holds_comes_before_one_that_cannot_be_decided() -> None:
    metrics = Metrics.to_measure(EvalConfig(samples=16), True, True)
    done = result(-0.3, -0.1)
    holds, undecided, fails = (
        decide(read(f"pass@16 < base - {number}", metrics), done)
        for number in ("0.02", "0.2", "0.5")
    )
    assert status([fails, undecided, holds]) == 3
    assert status([fails, undecided]) == 4
    assert (status([fails]), status([])) == (0, 0)
