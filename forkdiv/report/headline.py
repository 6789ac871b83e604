"""The results of a study as sentences. Each claim is supported by the limits of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkdiv.core.results import Cell, Summary
from forkdiv.report import unanswered
from forkdiv.report.grid import ALL, Estimate, Grid, nearest_1, signed, subset_title
from forkdiv.report.setting import Setting

NOT_ANSWERED = "Not answered: "
VERBS = {1: "raised", -1: "lowered", 0: "did not clearly change"}


@dataclass(frozen=True)
class ChosenSettings:
    """The one or two settings of the headline, lowest first. `among` is the number of settings from
    which they were chosen by their changes at k; 1 if they were chosen by their values."""

    settings: tuple[Setting, ...]
    among: int
    k: int

    @property
    def pairs(self) -> int:
        return max(self.among * (self.among - 1) // 2, 1)


def headline(summary: Summary) -> str:
    """Returns the changes to the base in up to four sentences, one per line.

    A first line warns if a cell is invalid or sampled and exact values disagree. "Raised" and
    "lowered" are used only if the interval of the change excludes 0. If the results cannot answer
    the question, the only sentence says why.
    """
    grid = Grid.of(summary)
    lines = [warning(summary)]
    temperatures, temperature = _compared_temperatures(grid), main_temperature(grid)
    if temperature is None:
        lines.append(
            "The change to the base is unknown: there is no valid fine-tuned result with a base."
        )
        return "\n".join(line for line in lines if line)
    subsets = headline_subsets(grid)
    if reason := unanswered.reason(grid, temperature, subsets[0]):
        return "\n".join([*filter(None, lines), f"{NOT_ANSWERED}{reason}."])
    grid, left_out = unanswered.readable(grid, temperature, subsets[0])
    lines += [_temperature_sentence(grid, temperature, subset) for subset in subsets]
    across_temperatures = _across_temperatures_text(grid, temperatures, temperature, subsets[0])
    lines.append(f"{across_temperatures}; {_seed_note(grid)}.")
    lines.append(f"{left_out}." if left_out else "")
    return "\n".join(line for line in lines if line)


def warning(summary: Summary) -> str:
    """Returns one line about invalid cells and failed agreement; empty if there are none."""
    grid = Grid.of(summary)
    invalid = [cell for cell in grid.cells if not cell.valid]
    disagreeing = [(c, c.agreement) for c in grid.cells if c.agreement and not c.agreement.agrees]
    problems = []
    if invalid:
        # the subsets of one trial share its errors: list the trial once
        errors: dict[str, int] = {}
        for cell in invalid:
            name = _name(grid, cell)
            errors[name] = max(errors.get(name, 0), cell.errors)
        trials = [f"{name}: {count} samples without a verdict" for name, count in errors.items()]
        problems.append(f"{_share_of_cells(invalid, grid.cells)} invalid ({_first_texts(trials)})")
    if disagreeing:
        names = [
            f"{_name(grid, cell)}, {' '.join(cell.subset.split())}: "
            f"{abs(agreement.worst_z):.1f} standard errors at k={agreement.at_k}"
            for cell, agreement in disagreeing
        ]
        problems.append(
            f"sampled and exact pass@k disagree in {len(disagreeing)} of {len(grid.cells)} cells "
            f"({_first_texts(names)})"
        )
    return f"Do not rely on this report: {'; '.join(problems)}." if problems else ""


def main_temperature(grid: Grid) -> float | None:
    """Returns the temperature of the headline: the one nearest 1 with a change, or None."""
    compared = _compared_temperatures(grid)
    return nearest_1(compared) if compared else None


def headline_subsets(grid: Grid) -> Sequence[str]:
    """Returns the subsets of the headline: all problems and those with unsigned forks; of other
    subsets only the first."""
    return [subset for subset in (ALL, "unsigned") if subset in grid.subsets] or grid.subsets[:1]


def _compared_temperatures(grid: Grid) -> list[float]:
    """Returns the temperatures with a change to the base."""
    return [
        temperature
        for temperature in grid.temperatures
        if any(_changes(grid, s, temperature, sub) for s in grid.settings for sub in grid.subsets)
    ]


def choose_settings(grid: Grid, temperature: float, subset: str) -> ChosenSettings | None:
    """Returns the ends of a single numeric axis, or both of two settings; otherwise the settings
    with the smallest and the largest change at the largest k. None if no change is known."""
    settings = [s for s in grid.settings if _changes(grid, s, temperature, subset)]
    if not settings:
        return None
    k = grid.ends[-1]
    change_of = {
        s: change.value for s in settings if (change := grid.change(s, temperature, subset, k))
    }
    if grid.is_scale or len(settings) <= 2 or len(change_of) < 2:
        return ChosenSettings(tuple(sorted({settings[0], settings[-1]})), 1, k)
    # among equal changes the last counts as the largest, so that there are two settings
    lowest, highest = (
        min(change_of, key=change_of.__getitem__),
        max(reversed(change_of), key=change_of.__getitem__),
    )
    return ChosenSettings((lowest, highest), len(change_of), k)


def _temperature_sentence(grid: Grid, temperature: float, subset: str) -> str:
    place = f"At temperature {temperature:g}, on {subset_title(subset)},"
    choice = choose_settings(grid, temperature, subset)
    if choice is None:
        return f"{place} there is no valid result to compare."
    changes = [
        _changes(grid, setting, temperature, subset, choice.among) for setting in choice.settings
    ]
    limits = f"{grid.percent} interval "
    first, *second = choice.settings
    if choice.among > 1:
        limits += f"for all {choice.among} at once "
        text = f"{place} of {choice.among} settings the lowest change in pass@{choice.k} was "
        text += f"measured {first.phrase}: fine-tuning {_changes_text(changes[0], limits)} "
        text += "against the base"
        text += f"; the highest {second[0].phrase}: it {_changes_text(changes[1])}"
    else:
        text = " ".join(filter(None, (place, "fine-tuning", first.phrase)))
        text += f" {_changes_text(changes[0], limits)} against the base"
        text += f"; {second[0].phrase} it {_changes_text(changes[1])}" if second else ""
    if second:
        text += f"; {_comparison(grid, choice, temperature, subset)}"
    return text + "."


def _changes(
    grid: Grid, setting: Setting, temperature: float, subset: str, among: int = 1
) -> dict[int, Estimate]:
    changes = {k: grid.change(setting, temperature, subset, k, among) for k in grid.ends}
    return {k: change for k, change in changes.items() if change}


def _changes_text(changes: dict[int, Estimate], limits: str = "") -> str:
    """Returns `raised pass@1 (...) and lowered pass@64 (...)`; `limits` is the description of the
    limits in the first bracket."""
    texts_by_verb: dict[str, list[str]] = {}
    for k, change in changes.items():
        seed_directions = set(change.directions)
        seeds_agree = (
            len(change.directions) > 1 and len(seed_directions) == 1 and change.direction == 0
        )
        seed_note = (
            f"; each seed alone {VERBS[min(seed_directions)]} it"
            if seeds_agree and seed_directions != {0}
            else ""
        )
        value, span = change.parts(2)
        texts_by_verb.setdefault(VERBS[change.direction], []).append(
            f"pass@{k} ({value}, {limits}{span}{seed_note})"
        )
        limits = ""
    joins = {verb: " or " if verb == VERBS[0] else " and " for verb in texts_by_verb}
    return " and ".join(
        f"{verb} {joins[verb].join(texts)}" for verb, texts in texts_by_verb.items()
    )


def _comparison(grid: Grid, chosen: ChosenSettings, temperature: float, subset: str) -> str:
    """Returns which of two settings is better, if they clearly differ."""
    first, second = chosen.settings
    ks_by_better: dict[Setting | None, list[str]] = {}
    for k in grid.ends:
        low, high = (grid.change(setting, temperature, subset, k) for setting in chosen.settings)
        if low is None or high is None:
            continue
        places = (first, temperature, subset), (second, temperature, subset)
        better = first if low.value > high.value else second
        clear = grid.differ(*places, k, chosen.pairs)
        ks_by_better.setdefault(better if clear else None, []).append(f"pass@{k}")
    parts = [
        f"{' and '.join(ks)} {'is' if len(ks) == 1 else 'are'} higher {better.phrase}"
        if better
        else f"{' and '.join(ks)} {'does' if len(ks) == 1 else 'do'} not clearly differ"
        for better, ks in ks_by_better.items()
    ]
    return f"between the two, {' and '.join(parts) or 'nothing can be compared'}"


def _across_temperatures_text(
    grid: Grid, temperatures: Sequence[float], temperature: float, subset: str
) -> str:
    """Returns whether each change varies with temperature: whether its extremes clearly differ."""
    if len(temperatures) < 2:
        return f"Only temperature {temperatures[0]:g} was compared"
    choice = choose_settings(grid, temperature, subset)
    varying: list[str] = []
    constant: dict[tuple[Setting, ...], list[str]] = {}
    for k in grid.ends if choice else ():
        assert choice
        variations = {
            setting: _variation(grid, setting, subset, k, choice.among)
            for setting in choice.settings
        }
        clear = [
            f"{setting.phrase} ({text})".lstrip() for setting, text in variations.items() if text
        ]
        if clear:
            varying.append(f"the change in pass@{k} varies clearly {' and '.join(clear)}")
        if unclear := tuple(setting for setting, text in variations.items() if text == ""):
            constant.setdefault(unclear, []).append(f"pass@{k}")
    parts = varying + [
        f"the change in {' and '.join(ks)} does not clearly vary "
        f"{' or '.join(setting.phrase for setting in settings)}".rstrip()
        for settings, ks in constant.items()
    ]
    span = f"{temperatures[0]:g} to {temperatures[-1]:g}"
    place = f"Across temperatures {span}, on {subset_title(subset)},"
    return f"{place} {'; '.join(parts) or 'too few valid results to compare'}"


def _variation(grid: Grid, setting: Setting, subset: str, k: int, among: int) -> str | None:
    """Returns the extremes of a change over the temperatures in words; empty if they do not clearly
    differ, None if fewer than two are known."""
    changes = {t: grid.change(setting, t, subset, k) for t in grid.temperatures}
    values = {t: change.value for t, change in changes.items() if change}
    if len(values) < 2:
        return None
    ends = sorted((min(values, key=values.__getitem__), max(values, key=values.__getitem__)))
    pairs = among * len(values) * (len(values) - 1) // 2
    if not grid.differ((setting, ends[0], subset), (setting, ends[-1], subset), k, pairs):
        return ""
    return ", ".join(f"{signed(values[t], 2)} at {t:g}" for t in ends)


def _seed_note(grid: Grid) -> str:
    if len(grid.seeds) == 1:
        return "all results are from one SFT seed, and another seed may differ"
    return (
        f"changes are means over up to {len(grid.seeds)} SFT seeds; the limits include their spread"
    )


def _name(grid: Grid, cell: Cell) -> str:
    setting = Setting.of(cell, grid.axes)
    model = setting.label if setting else "base"
    return f"{model}, temperature {cell.temperature:g}, seed {cell.seed}"


def _share_of_cells(selected: Sequence[object], cells: Sequence[Cell]) -> str:
    return f"{len(selected)} of {len(cells)} cells {'is' if len(selected) == 1 else 'are'}"


def _first_texts(texts: Sequence[str], most: int = 3) -> str:
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
