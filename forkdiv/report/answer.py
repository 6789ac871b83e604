"""Answers the question of every study in one sentence: what is lost with many tries, and what is
gained in one try.

A loss is reported only if the interval of the change at the largest k excludes 0. The settings of
the headline keep the limits of the headline. The limits of all other settings are simultaneous over
settings and subsets (Bonferroni), because those settings were not selected in advance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from forkdiv.report import unanswered
from forkdiv.report.grid import ALL, Estimate, Grid, shortened
from forkdiv.report.headline import (
    NOT_ANSWERED,
    choose_settings,
    headline_subsets,
    main_temperature,
)
from forkdiv.report.setting import Setting, listed
from forkdiv.report.trade_off import clause as both_sides
from forkdiv.report.trade_off import ends_of

QUESTION = "Did fine-tuning cost coverage?"
MAX_NAMED = 3
_DIRECTION_WORDS = {1: "more", -1: "fewer"}
_SUBSET_PHRASES = {"unsigned": " where forks are unsigned", "signed": " where forks are signed"}


@dataclass(frozen=True)
class SettingChange:
    """The changes of a setting on one subset: at the largest k, and at k=1 if it was measured."""

    setting: Setting
    change: Estimate
    at_1: Estimate | None


def answer(grid: Grid) -> str:
    """Returns one sentence that begins with Yes, No, "No loss can be shown" or "Not answered"."""
    temperature = main_temperature(grid)
    if temperature is None:
        return f"{NOT_ANSWERED}there is no valid fine-tuned result with a base to compare with."
    k = grid.ends[-1]
    if k == 1:
        return f"{NOT_ANSWERED}only pass@1 was measured, but coverage is pass@k for a larger k."
    subsets = headline_subsets(grid)
    if reason := unanswered.reason(grid, temperature, subsets[0]):
        return f"{NOT_ANSWERED}{reason}."
    grid, left_out = unanswered.readable(grid, temperature, subsets[0])
    note = f" {left_out}." if left_out else ""
    changes_by_subset = {
        subset: _setting_changes(grid, temperature, subset, len(subsets)) for subset in subsets
    }
    tries = f"with {k} tries per problem"
    if len(grid.temperatures) > 1:
        tries += f" at temperature {temperature:g}"
    losses = {
        subset: losing
        for subset, setting_changes in changes_by_subset.items()
        if (
            losing := [
                setting_change
                for setting_change in setting_changes
                if setting_change.change.direction < 0
            ]
        )
    }
    trade_off = both_sides(grid, ends_of(grid, temperature, subsets[0]), bool(losses))
    if not losses:
        return f"{_no_loss_text(grid, changes_by_subset, tries)}{trade_off}.{note}"
    models = {
        setting_change.setting for losing in changes_by_subset.values() for setting_change in losing
    }
    # one subset is enough for the answer: the headline covers the others
    subset, losing = next(iter(losses.items()))
    scope = f", for {len(losing)} of {len(models)} fine-tuned models"
    scope = "" if len(losing) == len(models) else scope
    text = _loss_clause(grid, losing, subset, f"{grid.percent} interval ", len(models))
    return f"Yes{scope}: {tries}, {text}{trade_off}.{note}"


def _setting_changes(
    grid: Grid, temperature: float, subset: str, subsets: int
) -> list[SettingChange]:
    choice = choose_settings(grid, temperature, subset)
    if choice is None:
        return []
    settings = [s for s in grid.settings if grid.change(s, temperature, subset, choice.k)]
    setting_changes = []
    for setting in settings:
        is_chosen = setting in choice.settings
        among = choice.among if is_chosen else len(settings) * subsets
        place = (setting, temperature, subset)
        change = grid.change(*place, choice.k, among)
        assert change
        at_1 = grid.change(*place, 1, among) if 1 in grid.ks else None
        setting_changes.append(SettingChange(setting, change, at_1))
    return setting_changes


def _loss_clause(
    grid: Grid, losses: Sequence[SettingChange], subset: str, limits: str, models: int
) -> str:
    """Returns which models solve fewer problems of a subset, and how many fewer."""
    verb = "solves" if len(losses) == 1 else "solve"
    fewer_problems = (
        f"{_fewer_text(losses)} of every 100 problems" if len(losses) == 1 else "fewer problems"
    )
    return (
        f"{_subject(grid, losses, models)} {verb} {fewer_problems} than the base"
        f"{_on_subset(grid, subset)} "
        f"({_loss_sizes(losses, limits)}){_in_one_try(losses, models)}"
    )


def _fewer_text(losses: Sequence[SettingChange]) -> str:
    return f"{_per_100(losses[0].change)[0]} fewer"


def _loss_sizes(losses: Sequence[SettingChange], limits: str) -> str:
    """Returns the limits of a single loss, or the sizes of several losses."""
    if len(losses) == 1:
        _, smallest, largest = _per_100(losses[0].change)
        return f"{limits}{smallest} to {largest}"
    if len(losses) == 2:
        sizes = " and ".join(_per_100(loss.change)[0] for loss in losses)
    else:
        by_size = sorted(losses, key=lambda loss: -loss.change.value)
        sizes = f"{_per_100(by_size[0].change)[0]} to {_per_100(by_size[-1].change)[0]}"
    return f"{sizes} fewer of every 100"


def _in_one_try(losses: Sequence[SettingChange], models: int) -> str:
    """Returns the change of the same models in one try, if it is clear and has the same direction
    for all. The trade-off clause reports gains of several models."""
    at_1 = [loss.at_1 for loss in losses if loss.at_1]
    directions = {loss.direction for loss in at_1} if len(at_1) == len(losses) else {0}
    subject = "it solves" if len(losses) == 1 else "they solve"
    sizes = [f"{abs(100 * loss.value):.{loss.digits(2) - 2}f}" for loss in at_1]
    if directions == {1} and models == 1:
        return f", although {subject} {_listed_sizes(sizes)} more in one try"
    if directions == {-1}:
        return f", and {_listed_sizes(sizes)} fewer in one try as well"
    return ""


def _listed_sizes(sizes: Sequence[str]) -> str:
    """Lists one or two sizes, or gives the range of more."""
    if len(sizes) <= 2:
        return listed(list(dict.fromkeys(sizes)))
    ends = sorted(sizes, key=float)
    return f"{ends[0]} to {ends[-1]}" if ends[0] != ends[-1] else ends[0]


def _no_loss_text(grid: Grid, changes_by_subset: dict[str, list[SettingChange]], tries: str) -> str:
    """Returns the answer without a clear loss: the losses that can be excluded, with limits
    simultaneous over all settings and subsets."""
    setting_changes = [
        setting_change
        for setting_changes_of_subset in changes_by_subset.values()
        for setting_change in setting_changes_of_subset
    ]
    if all(setting_change.change.direction > 0 for setting_change in setting_changes):
        subject = (
            "the fine-tuned model solves"
            if len(setting_changes) == 1
            else "every fine-tuned model solves"
        )
        gain = _single_gain(setting_changes)
        return f"No: {tries}, {subject} more problems than the base{gain}"
    temperature, k, count = main_temperature(grid), grid.ends[-1], len(setting_changes)
    assert temperature is not None
    bounds: list[str] = []
    excludes_nothing = ""
    for subset, setting_changes_of_subset in changes_by_subset.items():
        lows = [
            change.low
            for setting_change in setting_changes_of_subset
            if (change := grid.change(setting_change.setting, temperature, subset, k, count))
        ]
        if not lows:
            continue
        largest = max(math.ceil(round(-100 * min(lows), 6)), 1)
        base = grid.pass_at(None, temperature, subset, k)
        if base and largest >= 100 * base.value:
            # no more than what the base solves can be lost: such a limit excludes nothing
            solved = f"{100 * base.value:.0f} of every 100 problems{_on_subset(grid, subset)}"
            excludes_nothing = excludes_nothing or solved
            continue
        bound = f" ({largest}{_on_subset(grid, subset)})"
        bounds.append(
            bound if bounds else f"{largest} of every 100 problems{_on_subset(grid, subset)}"
        )
    if not bounds:
        return (
            f"{NOT_ANSWERED}{tries}, no loss is clear, but none can be excluded either: the base "
            f"solves {excludes_nothing}, and the {grid.percent} limits of the change include the "
            f"loss of all of them; measure more problems (eval.problems)"
            f"{_single_gain(setting_changes)}"
        )
    subject = "the fine-tuned model does not clearly solve"
    subject = subject if len(setting_changes) == 1 else "no fine-tuned model clearly solves"
    return (
        f"No loss can be shown: {tries}, {subject} fewer problems than the base, and a loss of "
        f"more than {''.join(bounds)} can be excluded{_single_gain(setting_changes)}"
    )


def _single_gain(setting_changes: Sequence[SettingChange]) -> str:
    """Returns the change in one try if there is only one model and the change is clear."""
    at_1 = setting_changes[0].at_1
    if len(setting_changes) > 1 or at_1 is None or not at_1.direction:
        return ""
    size = f"{abs(100 * at_1.value):.{at_1.digits(2) - 2}f}"
    return f"; in one try it solves {size} {_DIRECTION_WORDS[at_1.direction]} of every 100"


def _subject(grid: Grid, losses: Sequence[SettingChange], models: int) -> str:
    article = (
        "a" if len(grid.seeds) > 1 else "the"
    )  # with several seeds, the result is a mean over models
    subject = "the models" if len(losses) > 1 else f"{article} model"
    if len(losses) == models:
        return subject.replace("model", "fine-tuned model")
    phrases = [article.setting.phrase for article in losses]
    if len(losses) <= MAX_NAMED:
        return f"{subject} fine-tuned {listed(phrases)}"
    return f"{len(losses)} of {models} fine-tuned models"


def _on_subset(grid: Grid, subset: str) -> str:
    if subset == ALL or len(grid.subsets) == 1:
        return ""
    return _SUBSET_PHRASES.get(subset, f" on “{shortened(subset)}”")


def _per_100(change: Estimate) -> tuple[str, str, str]:
    """Returns a loss and its limits, smaller first, in problems of every 100."""
    digits = change.digits(2)  # the same rounding as in the headline
    value, smallest, largest = (
        f"{-100 * round(number, digits):.{digits - 2}f}"
        for number in (change.value, change.high, change.low)
    )
    return value, smallest, largest
