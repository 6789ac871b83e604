"""The question of every study, answered in one sentence that gives both sides: what is lost with
many tries, and what is gained in one.

A loss is claimed only where the interval of the change at the largest k excludes 0. The settings
that the headline speaks of have its own limits; any other was looked at because it was there, so
its limits hold for all settings and subsets at once (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from forkdiv.report.grid import ALL, Estimate, Grid, cut
from forkdiv.report.headline import choose, read_first, spoken_subsets
from forkdiv.report.setting import Setting, listed
from forkdiv.report.trade_off import clause as both_sides
from forkdiv.report.trade_off import ends_of

QUESTION = "Did fine-tuning cost coverage?"
MOST_NAMED = 3
_MORE = {1: "more", -1: "fewer"}
_WHERE = {"unsigned": " where forks are unsigned", "signed": " where forks are signed"}


@dataclass(frozen=True)
class Judged:
    """A setting's changes on one subset: at the largest k, and at k=1 where that is another."""

    setting: Setting
    change: Estimate
    at_1: Estimate | None


def answer(grid: Grid) -> str:
    """One sentence; it opens with Yes, No, or what else the limits allow."""
    near = read_first(grid)
    if near is None:
        return "This cannot be told: no valid fine-tuned result has a base to compare with."
    k = grid.ends[-1]
    if k == 1:
        return "This cannot be told: only pass@1 was measured, and coverage is pass@k of larger k."
    subsets = spoken_subsets(grid)
    judged = {subset: _judge(grid, near, subset, len(subsets)) for subset in subsets}
    tries = f"with {k} tries per problem"
    if len(grid.temperatures) > 1:
        tries += f" at temperature {near:g}"
    lost = {
        subset: some
        for subset, all_of_them in judged.items()
        if (some := [one for one in all_of_them if one.change.direction < 0])
    }
    others = both_sides(grid, ends_of(grid, near, subsets[0]), bool(lost))
    if not lost:
        return f"{_not_lost(grid, judged, tries)}{others}."
    models = {one.setting for some in judged.values() for one in some}
    # one subset is enough for the answer: the lines below it speak of the others
    subset, some = next(iter(lost.items()))
    part = f", for {len(some)} of {len(models)} fine-tuned models"
    part = "" if len(some) == len(models) else part
    text = _clause(grid, some, subset, f"{grid.percent} interval ", len(models))
    return f"Yes{part}: {tries}, {text}{others}."


def _judge(grid: Grid, temperature: float, subset: str, subsets: int) -> list[Judged]:
    chosen = choose(grid, temperature, subset)
    if chosen is None:
        return []
    known = [s for s in grid.settings if grid.change(s, temperature, subset, chosen.k)]
    judged = []
    for setting in known:
        named = setting in chosen.settings
        among = chosen.among if named else len(known) * subsets
        place = (setting, temperature, subset)
        change = grid.change(*place, chosen.k, among)
        assert change
        at_1 = grid.change(*place, 1, among) if 1 in grid.ks else None
        judged.append(Judged(setting, change, at_1))
    return judged


def _clause(grid: Grid, lost: Sequence[Judged], subset: str, limits: str, models: int) -> str:
    """Who solves fewer problems of a subset, and how many fewer."""
    verb = "solves" if len(lost) == 1 else "solve"
    of = f"{_fewer(lost)} of every 100 problems" if len(lost) == 1 else "fewer problems"
    return (
        f"{_who(grid, lost, models)} {verb} {of} than the base{_where(grid, subset)} "
        f"({_sizes(lost, limits)}){_in_one_try(lost, models)}"
    )


def _fewer(lost: Sequence[Judged]) -> str:
    return f"{_per_100(lost[0].change)[0]} fewer"


def _sizes(lost: Sequence[Judged], limits: str) -> str:
    """The limits of one loss, or how large several are."""
    if len(lost) == 1:
        _, least, most = _per_100(lost[0].change)
        return f"{limits}{least} to {most}"
    if len(lost) == 2:
        sizes = " and ".join(_per_100(one.change)[0] for one in lost)
    else:
        ends = sorted(lost, key=lambda one: -one.change.value)
        sizes = f"{_per_100(ends[0].change)[0]} to {_per_100(ends[-1].change)[0]}"
    return f"{sizes} fewer of every 100"


def _in_one_try(lost: Sequence[Judged], models: int) -> str:
    """What the same models do in one try, where all of them clearly do the same. Of several
    models the largest gain is told after this."""
    at_1 = [one.at_1 for one in lost if one.at_1]
    directions = {one.direction for one in at_1} if len(at_1) == len(lost) else {0}
    who = "it solves" if len(lost) == 1 else "they solve"
    sizes = [f"{abs(100 * one.value):.{one.digits(2) - 2}f}" for one in at_1]
    if directions == {1} and models == 1:
        return f", although {who} {_listed_sizes(sizes)} more in one try"
    if directions == {-1}:
        return f", and {_listed_sizes(sizes)} fewer in one try as well"
    return ""


def _listed_sizes(sizes: Sequence[str]) -> str:
    """One or two sizes, of more the smallest to the largest."""
    if len(sizes) <= 2:
        return listed(list(dict.fromkeys(sizes)))
    ends = sorted(sizes, key=float)
    return f"{ends[0]} to {ends[-1]}" if ends[0] != ends[-1] else ends[0]


def _not_lost(grid: Grid, judged: dict[str, list[Judged]], tries: str) -> str:
    """No clear loss: what then is excluded, with limits for all settings and subsets at once."""
    every = [one for some in judged.values() for one in some]
    if all(one.change.direction > 0 for one in every):
        who = "the fine-tuned model solves" if len(every) == 1 else "every fine-tuned model solves"
        gain = _gain_alone(every)
        return f"No: {tries}, {who} more problems than the base{gain}"
    near, k, count = read_first(grid), grid.ends[-1], len(every)
    assert near is not None
    bounds: list[str] = []
    for subset, some in judged.items():
        lows = [
            found.low for one in some if (found := grid.change(one.setting, near, subset, k, count))
        ]
        most = max(math.ceil(round(-100 * min(lows), 6)), 1) if lows else 0
        if lows:
            more = f" ({most}{_where(grid, subset)})"
            bounds.append(more if bounds else f"{most} of every 100 problems{_where(grid, subset)}")
    who = "the fine-tuned model does not clearly solve"
    who = who if len(every) == 1 else "no fine-tuned model clearly solves"
    return (
        f"No loss can be shown: {tries}, {who} fewer problems than the base, and a loss of more "
        f"than {''.join(bounds)} can be excluded{_gain_alone(every)}"
    )


def _gain_alone(every: Sequence[Judged]) -> str:
    """What the only model gains or loses in one try, where that is clear."""
    at_1 = every[0].at_1
    if len(every) > 1 or at_1 is None or not at_1.direction:
        return ""
    size = f"{abs(100 * at_1.value):.{at_1.digits(2) - 2}f}"
    return f"; in one try it solves {size} {_MORE[at_1.direction]} of every 100"


def _who(grid: Grid, lost: Sequence[Judged], models: int) -> str:
    one = "a" if len(grid.seeds) > 1 else "the"  # of several seeds the mean is told
    many = "the models" if len(lost) > 1 else f"{one} model"
    if len(lost) == models:
        return many.replace("model", "fine-tuned model")
    phrases = [one.setting.phrase for one in lost]
    if len(lost) <= MOST_NAMED:
        return f"{many} fine-tuned {listed(phrases)}"
    return f"{len(lost)} of {models} fine-tuned models"


def _where(grid: Grid, subset: str) -> str:
    if subset == ALL or len(grid.subsets) == 1:
        return ""
    return _WHERE.get(subset, f" on “{cut(subset)}”")


def _per_100(change: Estimate) -> tuple[str, str, str]:
    """A loss and its limits, the smaller one first, in problems of every 100."""
    digits = change.digits(2)  # rounded as the headline rounds them
    value, least, most = (
        f"{-100 * round(one, digits):.{digits - 2}f}"
        for one in (change.value, change.high, change.low)
    )
    return value, least, most
