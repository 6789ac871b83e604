"""What a study found, in sentences that claim no more than its limits allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import ALL, Estimate, Grid, nearest_1, signed, subset_title
from forkdiv.report.setting import Setting

VERBS = {1: "raised", -1: "lowered", 0: "did not clearly change"}


@dataclass(frozen=True)
class Chosen:
    """The one or two settings that are spoken of, lowest first. `among` counts those from which
    they were chosen for their changes at k; it is 1 where what they are decided."""

    settings: tuple[Setting, ...]
    among: int
    k: int

    @property
    def pairs(self) -> int:
        return max(self.among * (self.among - 1) // 2, 1)


def headline(summary: Summary) -> str:
    """What fine-tuning changed against the base, in up to three sentences, one per line.

    A line before them warns where a cell is invalid or the sampler disagrees with exact
    values. "Raised" and "lowered" are said only where the interval of the change excludes 0.
    """
    grid = Grid.of(summary)
    lines = [warning(summary)]
    places, near = _compared(grid), read_first(grid)
    if near is None:
        lines.append("No change to the base can be told: no valid fine-tuned result has a base.")
        return "\n".join(line for line in lines if line)
    wanted = spoken_subsets(grid)
    lines += [_at_one_temperature(grid, near, subset) for subset in wanted]
    over = _over_temperatures(grid, places, near, wanted[0])
    lines.append(f"{over}; {_about_seeds(grid)}.")
    return "\n".join(line for line in lines if line)


def warning(summary: Summary) -> str:
    """One line on invalid cells and failed agreement; empty where there is nothing to warn of."""
    grid = Grid.of(summary)
    invalid = [cell for cell in grid.cells if not cell.valid]
    apart = [(c, c.agreement) for c in grid.cells if c.agreement and not c.agreement.agrees]
    said = []
    if invalid:
        # the subsets of one trial share its errors: name the trial once
        errors: dict[str, int] = {}
        for cell in invalid:
            name = _name(grid, cell)
            errors[name] = max(errors.get(name, 0), cell.errors)
        trials = [f"{name}: {count} answers without a verdict" for name, count in errors.items()]
        said.append(f"{_of(invalid, grid.cells)} invalid ({_some(trials)})")
    if apart:
        names = [
            f"{_name(grid, cell)}, {' '.join(cell.subset.split())}: "
            f"{abs(agreement.worst_z):.1f} standard errors at k={agreement.at_k}"
            for cell, agreement in apart
        ]
        said.append(
            f"{_of(apart, grid.cells)} in disagreement between sampled and exact pass@k "
            f"({_some(names)})"
        )
    return f"Do not rely on this report: {'; '.join(said)}." if said else ""


def read_first(grid: Grid) -> float | None:
    """The temperature that is spoken of: the nearest 1 with a change; None where there is none."""
    compared = _compared(grid)
    return nearest_1(compared) if compared else None


def spoken_subsets(grid: Grid) -> Sequence[str]:
    """All problems, and those with unsigned forks; of other subsets the first alone."""
    return [one for one in (ALL, "unsigned") if one in grid.subsets] or grid.subsets[:1]


def _compared(grid: Grid) -> list[float]:
    """The temperatures with a change to the base."""
    return [
        temperature
        for temperature in grid.temperatures
        if any(_changes(grid, s, temperature, sub) for s in grid.settings for sub in grid.subsets)
    ]


def choose(grid: Grid, temperature: float, subset: str) -> Chosen | None:
    """The ends of one axis of numbers, or both of two settings; else those with the smallest and
    the largest change at the largest k. None where no change is known."""
    known = [s for s in grid.settings if _changes(grid, s, temperature, subset)]
    if not known:
        return None
    k = grid.ends[-1]
    sized = {s: one.value for s in known if (one := grid.change(s, temperature, subset, k))}
    if grid.is_scale or len(known) <= 2 or len(sized) < 2:
        return Chosen(tuple(sorted({known[0], known[-1]})), 1, k)
    # of equal changes the last one is the largest, so that two settings are named
    lowest, highest = min(sized, key=sized.__getitem__), max(reversed(sized), key=sized.__getitem__)
    return Chosen((lowest, highest), len(sized), k)


def _at_one_temperature(grid: Grid, temperature: float, subset: str) -> str:
    where = f"At temperature {temperature:g}, on {subset_title(subset)},"
    chosen = choose(grid, temperature, subset)
    if chosen is None:
        return f"{where} there is no valid result to compare."
    known = [_changes(grid, one, temperature, subset, chosen.among) for one in chosen.settings]
    limits = f"{grid.percent} interval "
    first, *second = chosen.settings
    if chosen.among > 1:
        limits += f"for all {chosen.among} at once "
        text = f"{where} of {chosen.among} settings the lowest change in pass@{chosen.k} was "
        text += f"measured {first.phrase}: fine-tuning {_verbs(known[0], limits)} against the base"
        text += f"; the highest {second[0].phrase}: it {_verbs(known[1])}"
    else:
        text = " ".join(filter(None, (where, "fine-tuning", first.phrase)))
        text += f" {_verbs(known[0], limits)} against the base"
        text += f"; {second[0].phrase} it {_verbs(known[1])}" if second else ""
    if second:
        text += f"; {_between(grid, chosen, temperature, subset)}"
    return text + "."


def _changes(
    grid: Grid, setting: Setting, temperature: float, subset: str, among: int = 1
) -> dict[int, Estimate]:
    found = {k: grid.change(setting, temperature, subset, k, among) for k in grid.ends}
    return {k: change for k, change in found.items() if change}


def _verbs(changes: dict[int, Estimate], limits: str = "") -> str:
    """`raised pass@1 (...) and lowered pass@64 (...)`; `limits` explains the first bracket."""
    said: dict[str, list[str]] = {}
    for k, change in changes.items():
        alone = set(change.directions)
        agree = len(change.directions) > 1 and len(alone) == 1 and change.direction == 0
        each = f"; each seed alone {VERBS[min(alone)]} it" if agree and alone != {0} else ""
        value, span = change.parts(2)
        said.setdefault(VERBS[change.direction], []).append(
            f"pass@{k} ({value}, {limits}{span}{each})"
        )
        limits = ""
    joins = {verb: " or " if verb == VERBS[0] else " and " for verb in said}
    return " and ".join(f"{verb} {joins[verb].join(what)}" for verb, what in said.items())


def _between(grid: Grid, chosen: Chosen, temperature: float, subset: str) -> str:
    """Which of two settings is better; said only where they are clearly apart."""
    one, other = chosen.settings
    told: dict[Setting | None, list[str]] = {}
    for k in grid.ends:
        low, high = (grid.change(each, temperature, subset, k) for each in chosen.settings)
        if low is None or high is None:
            continue
        places = (one, temperature, subset), (other, temperature, subset)
        better = one if low.value > high.value else other
        clear = grid.differ(*places, k, chosen.pairs)
        told.setdefault(better if clear else None, []).append(f"pass@{k}")
    said = [
        f"{' and '.join(ks)} {'is' if len(ks) == 1 else 'are'} higher {better.phrase}"
        if better
        else f"{' and '.join(ks)} {'does' if len(ks) == 1 else 'do'} not clearly differ"
        for better, ks in told.items()
    ]
    return f"between the two, {' and '.join(said) or 'nothing can be compared'}"


def _over_temperatures(grid: Grid, places: Sequence[float], near: float, subset: str) -> str:
    """Whether each change varies with temperature: are its extremes clearly apart?"""
    if len(places) < 2:
        return f"Only temperature {places[0]:g} was compared, so nothing is said of others"
    chosen = choose(grid, near, subset)
    varying: list[str] = []
    still: dict[tuple[Setting, ...], list[str]] = {}
    for k in grid.ends if chosen else ():
        assert chosen
        found = {one: _variation(grid, one, subset, k, chosen.among) for one in chosen.settings}
        clear = [f"{one.phrase} ({text})".lstrip() for one, text in found.items() if text]
        if clear:
            varying.append(f"the change in pass@{k} varies clearly {' and '.join(clear)}")
        if unclear := tuple(one for one, text in found.items() if text == ""):
            still.setdefault(unclear, []).append(f"pass@{k}")
    said = varying + [
        f"the change in {' and '.join(ks)} does not clearly vary "
        f"{' or '.join(one.phrase for one in settings)}".rstrip()
        for settings, ks in still.items()
    ]
    where = f"Across temperatures {places[0]:g} to {places[-1]:g}, on {subset_title(subset)},"
    return f"{where} {'; '.join(said) or 'too few results are valid to compare'}"


def _variation(grid: Grid, setting: Setting, subset: str, k: int, among: int) -> str | None:
    """The extremes of a change over the temperatures, in words; empty where they are not clearly
    apart, None where fewer than two are known."""
    found = {t: grid.change(setting, t, subset, k) for t in grid.temperatures}
    known = {t: change.value for t, change in found.items() if change}
    if len(known) < 2:
        return None
    ends = sorted((min(known, key=known.__getitem__), max(known, key=known.__getitem__)))
    tried = among * len(known) * (len(known) - 1) // 2
    if not grid.differ((setting, ends[0], subset), (setting, ends[-1], subset), k, tried):
        return ""
    return ", ".join(f"{signed(known[t], 2)} at {t:g}" for t in ends)


def _about_seeds(grid: Grid) -> str:
    if len(grid.seeds) == 1:
        return "all of it rests on one SFT seed, and another may differ"
    return f"changes are means over up to {len(grid.seeds)} SFT seeds, limits include their spread"


def _name(grid: Grid, cell: Cell) -> str:
    setting = Setting.of(cell, grid.axes)
    who = setting.label if setting else "base"
    return f"{who}, temperature {cell.temperature:g}, seed {cell.seed}"


def _of(some: Sequence[object], cells: Sequence[Cell]) -> str:
    return f"{len(some)} of {len(cells)} cells {'is' if len(some) == 1 else 'are'}"


def _some(texts: Sequence[str], most: int = 3) -> str:
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
