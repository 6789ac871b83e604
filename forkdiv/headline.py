"""What a study found, in sentences that claim no more than its limits allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forkdiv.grid import SUBSET_TITLES, Cell, Estimate, Grid, place, signed


def headline(summary: dict[str, Any]) -> str:
    """What fine-tuning changed against the base, in up to three sentences, one per line.

    A line before them warns where a cell is invalid or the sampler disagrees with exact
    values. "Raised" and "lowered" are said only where the interval of the change excludes 0.
    """
    grid = Grid.of(summary)
    lines = [warning(summary)]
    places = [
        temperature
        for temperature in grid.temperatures
        if any(
            grid.change(density, temperature, subset, k)
            for density in grid.densities
            for subset in grid.subsets
            for k in grid.ends
        )
    ]
    if not places:
        lines.append("No change to the base can be told: no valid fine-tuned result has a base.")
        return "\n".join(line for line in lines if line)
    near = min(places, key=lambda temperature: (abs(temperature - 1), temperature))
    wanted = [subset for subset in ("all", "unsigned") if subset in grid.subsets]
    lines += [_at_one_temperature(grid, near, subset) for subset in wanted or grid.subsets[:1]]
    over = _over_temperatures(grid, places, (wanted or grid.subsets)[0])
    lines.append(f"{over}; {_about_seeds(grid)}.")
    return "\n".join(line for line in lines if line)


def warning(summary: dict[str, Any]) -> str:
    """One line on invalid cells and failed agreement; empty where there is nothing to warn of."""
    cells = [*summary["base"], *summary["cells"]]
    invalid = [cell for cell in cells if not cell["valid"]]
    apart = [cell for cell in cells if (cell.get("agreement") or {}).get("agrees") is False]
    said = []
    if invalid:
        # the subsets of one trial share its errors: name the trial once
        errors: dict[str, int] = {}
        for cell in invalid:
            errors[_name(cell)] = max(errors.get(_name(cell), 0), cell["errors"])
        trials = [f"{name}: {count} answers without a verdict" for name, count in errors.items()]
        said.append(f"{_of(invalid, cells)} invalid ({_some(trials)})")
    if apart:
        names = [
            f"{_name(cell)}, {cell['subset']}: {abs(cell['agreement']['worst_z']):.1f} standard "
            f"errors at k={cell['agreement']['at_k']}"
            for cell in apart
        ]
        said.append(
            f"{_of(apart, cells)} in disagreement between sampled and exact pass@k ({_some(names)})"
        )
    return f"Do not rely on this report: {'; '.join(said)}." if said else ""


def _at_one_temperature(grid: Grid, temperature: float, subset: str) -> str:
    where = f"At temperature {temperature:g}, on {SUBSET_TITLES[subset]},"
    known = {
        density: changes
        for density in grid.densities
        if (changes := _changes(grid, density, temperature, subset))
    }
    if not known:
        return f"{where} there is no valid result to compare."
    ends = sorted({min(known), max(known)})
    text = f"{where} fine-tuning at fork density {ends[0]:g} "
    text += f"{_verbs(known[ends[0]], f'{grid.percent} interval ')} against the base"
    if len(ends) == 2:
        text += f"; at density {ends[1]:g} it {_verbs(known[ends[1]])}"
        text += f"; {_between(known[ends[0]], known[ends[1]], ends)}"
    return text + "."


def _changes(grid: Grid, density: float, temperature: float, subset: str) -> dict[int, Estimate]:
    found = {k: grid.change(density, temperature, subset, k) for k in grid.ends}
    return {k: change for k, change in found.items() if change}


def _verbs(changes: dict[int, Estimate], limits: str = "") -> str:
    """`raised pass@1 (...) and lowered pass@64 (...)`; `limits` explains the first bracket."""
    verbs = {1: "raised", -1: "lowered", 0: "did not clearly change"}
    said: dict[str, list[str]] = {}
    for k, change in changes.items():
        alone = set(change.directions)
        agree = len(change.directions) > 1 and len(alone) == 1 and change.direction == 0
        each = f"; each seed alone {verbs[min(alone)]} it" if agree and alone != {0} else ""
        value, span = change.parts(2)
        said.setdefault(verbs[change.direction], []).append(
            f"pass@{k} ({value}, {limits}{span}{each})"
        )
        limits = ""
    joins = {verb: " or " if verb == verbs[0] else " and " for verb in said}
    return " and ".join(f"{verb} {joins[verb].join(what)}" for verb, what in said.items())


def _between(low: dict[int, Estimate], high: dict[int, Estimate], ends: list[float]) -> str:
    """Which of two densities is better; said only where their limits do not overlap."""
    said = []
    for k in sorted(set(low) & set(high)):
        if low[k].overlaps(high[k]):
            said.append(f"pass@{k} does not clearly differ")
        else:
            better = ends[0] if low[k].value > high[k].value else ends[1]
            said.append(f"pass@{k} is higher at density {better:g}")
    return f"between the two densities {' and '.join(said) or 'nothing can be compared'}"


def _over_temperatures(grid: Grid, places: Sequence[float], subset: str) -> str:
    """Whether each change varies with temperature: do its extremes overlap?"""
    if len(places) < 2:
        return f"Only temperature {places[0]:g} was compared, so nothing is said of others"
    said = []
    for k in grid.ends:
        varies, still = [], []
        for density in sorted({grid.densities[0], grid.densities[-1]}):
            found = {t: grid.change(density, t, subset, k) for t in places}
            known = {t: change for t, change in found.items() if change}
            if len(known) < 2:
                continue
            least = min(known, key=lambda t: known[t].value)
            most = max(known, key=lambda t: known[t].value)
            if known[least].overlaps(known[most]):
                still.append(f"{density:g}")
                continue
            shown = [f"{signed(known[t].value, 2)} at {t:g}" for t in sorted((least, most))]
            varies.append(f"{density:g} ({', '.join(shown)})")
        if varies:
            said.append(f"the change in pass@{k} varies clearly at density {' and '.join(varies)}")
        if still:
            said.append(f"that in pass@{k} does not clearly vary at density {' or '.join(still)}")
    where = f"Across temperatures {places[0]:g} to {places[-1]:g}, on {SUBSET_TITLES[subset]},"
    if not said:
        return f"{where} too few results are valid to compare"
    return f"{where} {'; '.join(said)}".replace(", that in", ", the change in", 1)


def _about_seeds(grid: Grid) -> str:
    if len(grid.seeds) == 1:
        return "all of it rests on one SFT seed, and another may differ"
    return f"changes are means over up to {len(grid.seeds)} SFT seeds, limits include their spread"


def _name(cell: Cell) -> str:
    density, temperature, seed, _ = place(cell)
    density = density if cell["fork_density"] is None else f"density {density}"
    return f"{density}, temperature {temperature}, seed {seed}"


def _of(some: Sequence[Cell], cells: Sequence[Cell]) -> str:
    return f"{len(some)} of {len(cells)} cells {'is' if len(some) == 1 else 'are'}"


def _some(texts: Sequence[str], most: int = 3) -> str:
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
