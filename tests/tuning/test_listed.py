"""What Ray Tune gets of a trial: one plain value for each axis."""

from __future__ import annotations

import pytest
from ray.tune.search import Searcher

from tuning.listed import Listed
from tuning.space import Point

BASE = Point(1.0, 0, tuned=False)
TUNED = Point(1.0, 0, settings=(("fork_density", 0.5), ("loss", "dco")))
ODD_VALUES = [None, True, False, "null", "true", "[a]", '"', "{", "1e-3", "", [1e-5, 2], {"a": [1]}]


def test_a_config_is_flat_and_has_no_nulls() -> None:
    for point in (BASE, TUNED):
        assert all(isinstance(value, bool | int | float | str) for value in point.config.values())
    assert TUNED.config["fork_density"] == 0.5
    assert "fork_density" not in BASE.config


def test_a_config_leads_back_to_its_point() -> None:
    named = Point(0.7, 3, decoder="hot", settings=(("sft.learning_rate", 1e-5),))
    for point in (BASE, TUNED, named):
        assert Point.of_config(point.config) == point


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_a_value_that_is_no_number_is_text_that_leads_back_to_it(value: object) -> None:
    point = Point(1.0, 0, settings=(("sft.loss_options", value),))
    assert isinstance(point.config["sft.loss_options"], str)
    assert Point.of_config(point.config) == point


def test_points_are_given_in_their_order() -> None:
    listed = Listed([BASE, TUNED])
    assert isinstance(listed, Searcher)
    assert [listed.suggest("a"), listed.suggest("b")] == [BASE.config, TUNED.config]
