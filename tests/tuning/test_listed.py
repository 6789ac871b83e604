"""What Ray Tune gets of a trial: one plain value for each axis."""

from __future__ import annotations

from ray.tune.search import Searcher

from forkdiv.core.config.study import StudyConfig
from tuning.listed import Listed, PointOf, config_of
from tuning.space import Point

BASE = Point(1.0, 0, tuned=False)
TUNED = Point(1.0, 0, settings=(("fork_density", 0.5), ("sft.lora.targets", ["q_proj"])))


def test_a_config_is_flat_and_has_no_nulls() -> None:
    for point in (BASE, TUNED):
        config = config_of(point)
        assert all(isinstance(value, bool | int | float | str) for value in config.values())
    assert config_of(TUNED)["fork_density"] == 0.5
    assert "fork_density" not in config_of(BASE)


def test_a_config_leads_back_to_its_point() -> None:
    point_of = PointOf(StudyConfig(), {point.name: point for point in (BASE, TUNED)})
    assert [point_of(config_of(point)) for point in (BASE, TUNED)] == [BASE, TUNED]


def test_a_searchers_values_lead_to_the_point_that_has_them() -> None:
    point = PointOf(StudyConfig(), {})({"sft.learning_rate": 1e-4, "decoder.temperature": 0.7})
    assert point.temperature == 0.7
    assert point.varied["sft.learning_rate"] == 1e-4


def test_points_are_given_in_their_order() -> None:
    listed = Listed([BASE, TUNED])
    assert isinstance(listed, Searcher)
    assert [listed.suggest("a"), listed.suggest("b")] == [config_of(BASE), config_of(TUNED)]
