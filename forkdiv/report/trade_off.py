"""The trade-off between the gain in one try and the loss in many tries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkdiv.report.grid import Estimate, Grid, signed
from forkdiv.report.setting import Setting


@dataclass(frozen=True)
class Ends:
    """A model's changes to the base at the smallest and at the largest k."""

    setting: Setting
    first: Estimate
    last: Estimate

    @property
    def total(self) -> float:
        return self.first.value + self.last.value


def ends_of(grid: Grid, temperature: float, subset: str) -> list[Ends]:
    """Returns the changes of every model that has both. The limits are simultaneous over the models
    (Bonferroni), because a model is selected by its changes."""
    if len(grid.ends) < 2:
        return []
    places = [(setting, temperature, subset) for setting in grid.settings]
    among = sum(1 for place in places if grid.change(*place, grid.ends[0]))
    return [
        Ends(place[0], first, last)
        for place in places
        if (first := grid.change(*place, grid.ends[0], among))
        and (last := grid.change(*place, grid.ends[-1], among))
    ]


def clause(grid: Grid, models: Sequence[Ends], is_lost: bool) -> str:
    """Returns the last clause of the answer for two or more models: the model with the largest gain
    in one try and, if a model lost, the best trade-off (the largest sum of both changes)."""
    if len(models) < 2 or grid.ends[0] != 1:
        return ""
    best_gain = max(models, key=lambda model: model.first.value)
    is_clear = best_gain.first.direction > 0
    text = "; in one try, none of them clearly solves more than the base"
    if is_clear:
        gain = f"{_per_100(best_gain.first)} of every 100"
        text = f"; in one try, {_model_phrase(best_gain)} gains most ({gain})"
    if not is_lost:
        return text
    best = max(models, key=lambda model: model.total)
    sizes = f"{_per_100(best.first)} in one try, {_per_100(best.last)} with {grid.ends[-1]}"
    if best is best_gain and is_clear:
        return f"{text}, and is the best trade-off ({sizes})"
    return f"{text}; the best trade-off is {_model_phrase(best)} ({sizes} of every 100)"


def _model_phrase(model: Ends) -> str:
    return f"the one {model.setting.phrase}"


def _per_100(change: Estimate) -> str:
    digits = change.digits(2) - 2
    return signed(100 * change.value, digits)
