"""A setting is named briefly and without doubt, and sorts as a reader expects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.config.axis_names import is_category, known_texts, title
from forkdiv.core.config.study import AXES
from forkdiv.report.setting import Setting
from tests.summaries import a_cell, read_cell


def setting(**values: Any) -> Setting:
    axes = [axis for axis in AXES if axis in values]
    found = Setting.of(read_cell(a_cell(values)), axes)
    assert found
    return found


@pytest.mark.parametrize(
    ("values", "label", "phrase"),
    [
        ({"fork_density": 0.5}, "fork density 0.5", "at fork density 0.5"),
        (
            {"direction": 0.0, "branch_coverage": 2},
            "direction 0, branch coverage 2",
            "at direction 0 and branch coverage 2",
        ),
        ({"structure": "problem-level"}, "problem-level", "with problem-level diversity"),
        (
            {"synthesis": "enumerator"},
            "synthesis: enumerator",
            "with synthesis from the enumerator",
        ),
        (
            {"branch_coverage": 1, "structure": "data-level", "synthesis": "none"},
            "branch coverage 1, data-level, synthesis: none",
            "at branch coverage 1 with data-level diversity and no synthesis",
        ),
        ({"loss": "gem"}, "loss: gem", "with gem loss"),
        ({"branch_coverage": None}, "branch coverage unset", "at branch coverage unset"),
        ({}, "tuned", ""),
    ],
)
def test_a_setting_is_named_by_its_axes(values: dict[str, Any], label: str, phrase: str) -> None:
    assert (setting(**values).label, setting(**values).phrase) == (label, phrase)


def test_the_base_has_no_setting() -> None:
    assert Setting.of(read_cell(a_cell(None)), ("fork_density",)) is None
    assert Setting.of(read_cell(a_cell(None)), ()) is None


def test_numbers_sort_by_size_and_texts_as_the_config_lists_them() -> None:
    coverage = [setting(branch_coverage=value) for value in (10, None, 9, 2)]
    assert [one.values[0] for one in sorted(coverage)] == [None, 2, 9, 10]
    synthesis = [setting(synthesis=value) for value in ("samples", "enumerator", "none")]
    assert [one.values[0] for one in sorted(synthesis)] == ["none", "enumerator", "samples"]
    both = [setting(fork_density=d, direction=v) for d in (1.0, 0.0) for v in (1.0, 0.0)]
    assert [one.values for one in sorted(both)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_loss_of_another_package_comes_after_those_that_are_known() -> None:
    losses = [setting(loss=value) for value in ("zeta", "dco", "alpha", "cross-entropy", None)]
    assert [one.values[0] for one in sorted(losses)] == [
        None,
        "cross-entropy",
        "dco",
        "alpha",
        "zeta",
    ]


def test_two_values_that_are_close_keep_two_names() -> None:
    assert setting(fork_density=0.3).label != setting(fork_density=0.3000001).label


numbers = st.floats(0, 1) | st.none()
settings = st.fixed_dictionaries(
    {axis: st.sampled_from(known_texts(axis)) if is_category(axis) else numbers for axis in AXES}
)


@given(settings, settings)
def test_names_are_equal_only_where_settings_are(one: dict[str, Any], two: dict[str, Any]) -> None:
    a, b = setting(**one), setting(**two)
    assert (a.label == b.label) == (a.phrase == b.phrase) == (a == b)
    assert (a < b) + (b < a) + (a == b) == 1


def test_a_setting_told_by_some_axes_keeps_their_values() -> None:
    whole = setting(fork_density=0.5, direction=0.0, structure="data-level")
    assert whole.along(["structure", "fork_density"]).values == ("data-level", 0.5)


def test_every_axis_of_the_config_is_known_and_has_words() -> None:
    assert {axis for axis in AXES if is_category(axis)} == {"structure", "synthesis", "loss"}
    assert [title(axis) for axis in AXES][:3] == [
        "fork density",
        "direction",
        "branch coverage",
    ]
