"""Cells: numbers only where every sample has a verdict, changes only against the same problems."""

from __future__ import annotations

import json
from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import EvalConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.results import CellName
from forkdiv.coverage.cells import CellInputs, cells, mean_pass_at
from forkdiv.score.counts import ProblemCounts
from forkdiv.tasks.graph_branching import BROKEN_PATH, OTHER_ENDS

N = 8
CONFIG = EvalConfig(problems=4, samples=N, k=(1, 4), bootstrap=200)
KNOBS = {"tuned": True, "fork_density": 0.5, "structure": None, "temperature": 1.0, "seed": 0}
NAME = CellName.model_validate(KNOBS)


def counts(correct: list[int], **more: Any) -> list[ProblemCounts]:
    """Problems by turns signed and unsigned, the rest of each one's samples wrong."""
    return [
        ProblemCounts(
            f"p{i}",
            ("signed", "unsigned")[i % 2],
            n=N,
            correct=c,
            wrong=N - c,
            wrong_by={OTHER_ENDS: N - c} if c < N else {},
            **more,
        )
        for i, c in enumerate(correct)
    ]


def by_subset(
    tuned: list[ProblemCounts],
    base: list[ProblemCounts] | None = None,
    exact: list[float] | None = None,
) -> dict[str, dict[str, Any]]:
    found = CellInputs(tuned, base, None if exact is None else np.array(exact))
    made = [cell.as_json() for cell in cells(NAME, found, CONFIG)]
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    return {cell["subset"]: cell for cell in made}


def pass_at(c: int, k: int) -> float:
    return 1 - comb(N - c, k) / comb(N, k)


def test_each_subset_and_all_of_them_get_a_cell_with_its_own_problems() -> None:
    made = by_subset(counts([8, 2, 6, 0]))
    assert list(made) == ["signed", "unsigned", "all"]
    assert [made[s]["n_problems"] for s in made] == [2, 2, 4]
    for k in (1, 4):
        signed, unsigned = pass_at(8, k) + pass_at(6, k), pass_at(2, k) + pass_at(0, k)
        values = [made[s]["pass_at"][str(k)]["value"] for s in made]
        assert values == pytest.approx([signed / 2, unsigned / 2, (signed + unsigned) / 4])
    assert all(cell.items() >= KNOBS.items() for cell in made.values())


def test_an_interval_contains_its_value() -> None:
    for cell in by_subset(counts([8, 2, 6, 0]), counts([3, 3, 2, 2])).values():
        for interval in [*cell["pass_at"].values(), *cell["delta_to_base"].values()]:
            assert interval["low"] <= interval["value"] <= interval["high"]


def test_the_base_has_no_change_and_a_tuned_cell_has_one_at_every_k() -> None:
    base = counts([4, 2, 4, 2])
    assert all(cell["delta_to_base"] == {} for cell in by_subset(base).values())
    tuned = by_subset(counts([8, 2, 6, 0]), base)
    for k in (1, 4):
        change = pass_at(2, k) + pass_at(0, k) - 2 * pass_at(2, k)
        assert tuned["unsigned"]["delta_to_base"][str(k)]["value"] == pytest.approx(change / 2)


def test_a_base_with_different_problems_or_order_is_refused() -> None:
    tuned = counts([8, 2, 6, 0])
    for base in (tuned[::-1], tuned[:2], [*tuned[:3], ProblemCounts("q", "unsigned", n=N)]):
        with pytest.raises(InvalidResult, match="different problems"):
            cells(NAME, CellInputs(tuned, base), CONFIG)


@pytest.mark.parametrize("side", ["tuned", "base"])
def test_an_error_verdict_of_base_or_tuned_makes_a_cell_invalid(side: str) -> None:
    tuned, base = counts([8, 2, 6, 0]), counts([4, 2, 4, 2])
    hurt = (tuned if side == "tuned" else base)[1]
    hurt.wrong -= 1
    hurt.error += 1
    made = by_subset(tuned, base, [0.5] * 4)
    for subset in ("unsigned", "all"):
        cell = made[subset]
        assert (cell["valid"], cell["errors"]) == (False, 1)
        assert cell["pass_at"] == {"1": None, "4": None}
        assert cell["delta_to_base"] == cell["best_case_pass_at"] == cell["exact_pass_at"] == {}
        assert cell["agreement"] is None
    assert made["signed"]["valid"] and made["signed"]["pass_at"]["4"] is not None


def test_the_best_case_counts_every_unreadable_response_as_correct() -> None:
    tuned = counts([4, 2, 4, 2])
    tuned[0].wrong, tuned[0].truncated = 1, 3
    tuned[1].wrong, tuned[1].truncated, tuned[1].unparsable = 0, 2, 4
    made = by_subset(tuned)
    for k in (1, 4):
        best = (pass_at(7, k) + pass_at(8, k) + pass_at(4, k) + pass_at(2, k)) / 4
        plain = (2 * pass_at(4, k) + 2 * pass_at(2, k)) / 4
        assert made["all"]["best_case_pass_at"][str(k)] == pytest.approx(best)
        assert made["all"]["pass_at"][str(k)]["value"] == pytest.approx(plain)
    assert (made["all"]["truncated"], made["all"]["unparsable"]) == (5, 4)


def test_responses_cut_off_in_their_thinking_are_counted_only_where_there_are_some() -> None:
    tuned = counts([4, 2, 4, 2])
    assert "truncated_thinking" not in by_subset(tuned)["all"]
    tuned[0].truncated, tuned[0].truncated_thinking = 3, 2
    assert by_subset(tuned)["all"]["truncated_thinking"] == 2


def test_wrong_responses_are_counted_by_reason() -> None:
    tuned = counts([8, 2, 6, 0])
    tuned[3].wrong_by = {OTHER_ENDS: 5, BROKEN_PATH: 3}
    made = by_subset(tuned)
    assert made["all"]["lost"] == {OTHER_ENDS: 6 + 2 + 5, BROKEN_PATH: 3}
    assert made["signed"]["lost"] == {OTHER_ENDS: 2}
    assert list(made["all"]["lost"]) == sorted(made["all"]["lost"])


def test_problems_of_one_subset_get_one_cell() -> None:
    alike = [replace(one, subset="base 9") for one in counts([8, 2, 6, 0])]
    made = by_subset(alike)
    assert list(made) == ["all"] and made["all"]["n_problems"] == 4


# --- how a response is told ---------------------------------------------------------------------

MODES = ("linear", "backtracking")


def told(rows: list[dict[str, tuple[int, int]]]) -> list[ProblemCounts]:
    """Problems with all and correct samples by mode; what is left of `N` was cut off."""
    made = []
    for i, by_mode in enumerate(rows):
        n, c = (sum(both[j] for both in by_mode.values()) for j in (0, 1))
        one = ProblemCounts(f"p{i}", "signed", n=N, correct=c, wrong=n - c, truncated=N - n)
        made.append(replace(one, by_mode=by_mode))
    return made


@st.composite
def modes_and_phrasings(draw: st.DrawFn) -> dict[str, tuple[int, int]]:
    linear = draw(st.integers(0, N))
    found = {}
    for mode, n in zip(MODES, (linear, draw(st.integers(0, N - linear))), strict=True):
        if n:
            found[mode] = (n, draw(st.integers(0, n)))
    return found


@settings(deadline=None, max_examples=50)
@given(st.lists(modes_and_phrasings(), min_size=1, max_size=6))
def test_results_of_a_mode_are_those_of_its_samples(
    rows: list[dict[str, tuple[int, int]]],
) -> None:
    cell = by_subset(told(rows))["all"]
    assert set(cell["modes"]) == {mode for row in rows for mode in row}
    for mode, result in cell["modes"].items():
        mine = [row.get(mode, (0, 0)) for row in rows]
        assert result["share"] == pytest.approx(sum(n for n, _ in mine) / (N * len(rows)))
        ks = [k for k in CONFIG.ks if any(n >= k for n, _ in mine)]
        assert list(result["pass_at"]) == [str(k) for k in ks]
        for k in ks:
            enough = [(n, c) for n, c in mine if n >= k]
            value = sum(1 - comb(n - c, k) / comb(n, k) for n, c in enough) / len(enough)
            assert result["pass_at"][str(k)]["value"] == pytest.approx(value)
            assert result["pass_at"][str(k)]["problems"] == len(enough)


def test_a_single_mode_has_the_results_of_the_cell() -> None:
    rows = [{"linear": (N, c)} for c in (8, 2, 6, 0)]
    cell = by_subset(told(rows))["all"]
    assert cell["modes"]["linear"]["share"] == 1
    for k in ("1", "4"):
        value = cell["pass_at"][k]["value"]
        assert cell["modes"]["linear"]["pass_at"][k] == {
            "value": pytest.approx(value),
            "problems": 4,
        }


def test_a_subset_has_the_modes_of_its_own_problems() -> None:
    rows = told([{"linear": (8, 8)}, {"backtracking": (8, 2)}])
    made = by_subset([rows[0], replace(rows[1], subset="unsigned")])
    assert set(made["signed"]["modes"]) == {"linear"}
    assert set(made["unsigned"]["modes"]) == {"backtracking"}
    assert {mode: one["share"] for mode, one in made["all"]["modes"].items()} == {
        "linear": 0.5,
        "backtracking": 0.5,
    }


def test_an_invalid_cell_has_no_results_by_mode() -> None:
    rows = told([{"linear": (8, 8)}, {"linear": (7, 2)}])
    rows[1].truncated, rows[1].error = 0, 1
    assert by_subset(rows)["all"]["modes"] == {}


def test_exact_values_are_those_of_the_subsets_own_problems() -> None:
    p = [1.0, 0.25, 0.75, 0.0]
    made = by_subset(counts([8, 2, 6, 0]), None, p)
    for subset, mine in {"signed": [1.0, 0.75], "unsigned": [0.25, 0.0], "all": p}.items():
        for k in (1, 4):
            expected = sum(1 - (1 - one) ** k for one in mine) / len(mine)
            assert made[subset]["exact_pass_at"][str(k)] == pytest.approx(expected)
        assert made[subset]["agreement"]["agrees"] is True


def test_samples_that_contradict_exact_values_do_not_agree() -> None:
    config = EvalConfig(problems=40, samples=64, k=(1, 64), bootstrap=100)
    tuned = [ProblemCounts(f"p{i}", "signed", n=64, correct=64) for i in range(40)]
    cell = cells(NAME, CellInputs(tuned, None, np.full(40, 0.3)), config)[-1].as_json()
    assert cell["agreement"]["agrees"] is False
    assert cell["agreement"]["worst_z"] > 5


def test_a_cell_without_exact_values_has_no_agreement() -> None:
    cell = by_subset(counts([8, 2, 6, 0]))["all"]
    assert (cell["exact_pass_at"], cell["agreement"]) == ({}, None)


def test_distinct_solutions_are_at_most_the_valid_ones() -> None:
    rows = counts([4, 4, 4, 4], valid=3)
    rows = [
        replace(rows[0], solutions={2: 2}),
        *(replace(one, solutions={4: 1}) for one in rows[1:]),
    ]
    cell = by_subset(rows, counts([0, 0, 0, 0]))["all"]
    assert cell["valid_solutions"] == 3
    expected = (2 * pass_at(2, 4) + 3 * pass_at(4, 4)) / 4
    assert cell["distinct_at"]["4"]["value"] == pytest.approx(expected)
    assert cell["distinct_delta"] == cell["distinct_at"], "the base found none"


def test_majority_needs_answers_in_verdicts() -> None:
    rows = counts([4, 4, 4, 4])
    assert by_subset(rows)["all"]["majority_at"] == {}
    voting = [replace(one, right_votes={4: 1}, wrong_votes={1: 4}) for one in rows]
    found = by_subset(voting)["all"]["majority_at"]
    assert found["1"] == pytest.approx(0.5)
    assert found["4"] > 0.6, "wrong votes are split"


def test_mean_pass_at_equals_the_cells_and_leaves_out_subsets_with_errors() -> None:
    rows = counts([8, 2, 6, 0])
    cell = by_subset(rows)
    for subset, values in mean_pass_at(rows, CONFIG).items():
        assert values == {k: one["value"] for k, one in cell[subset]["pass_at"].items()}
    assert set(mean_pass_at([replace(rows[0], error=1), *rows[1:]], CONFIG)) == {"unsigned"}


def test_problems_of_only_one_model_are_named() -> None:
    tuned, base = counts([1, 2]), counts([1, 2])
    base[1] = replace(base[1], problem_id="p9")
    with pytest.raises(InvalidResult, match=r"2 not in both: p1, p9"):
        cells(NAME, CellInputs(tuned, base), CONFIG)


def test_a_cell_has_the_law_or_the_reason_why_not() -> None:
    made = by_subset(counts([8, 2, 6, 0]))["all"]
    assert made["no_law"] == "" and list(made["law"]["predictions"]) == ["64", "512"]
    assert made["law"]["b"] < 0 and made["law"]["heldout"] is None
    none = by_subset(counts([0, 0, 0, 0]))["all"]
    assert none["law"] is None and none["no_law"].startswith("no sample is correct")
    asked = CONFIG.model_copy(update={"predict": (100,)})
    (*_, cell) = cells(NAME, CellInputs(counts([8, 2, 6, 0])), asked)
    assert cell.law and list(cell.law.predictions) == [100]
