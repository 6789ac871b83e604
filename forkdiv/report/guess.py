"""Section "Guessing": pass@k beside what guessing would get that does not depend on the problem."""

from __future__ import annotations

from forkdiv.core.results import Cell, Guess, Summary
from forkdiv.report.grid import ALL, Estimate, Grid, as_estimate, estimate, nearest_1, thinned
from forkdiv.report.reliability import change_text
from forkdiv.report.section import Content, Section, TableView, note, paragraph
from forkdiv.report.setting import listed
from forkdiv.report.tables import Table

SHOWN_FROM = 0.01  # a baseline at the largest k from which the report shows it
WARNED_FROM = 0.05
MARGIN = 0.02  # pass@k is clearly above its baseline if the limits exclude a smaller difference
MAX_KS = 4
MAX_NAMED = 3


def content(summary: Summary, grid: Grid) -> Content | None:
    cells = shown_cells(grid)
    if not cells:
        return None
    return [
        paragraph(
            "Where answers have few values, many tries include the right one by chance, so pass@k "
            "at large k rewards guessing. The guess baseline is the pass@k of a guesser that "
            "answers each problem with the model's responses to the other problems. Only what "
            "pass@k is above its baseline shows that the model solves problems.",
            warning(grid),
        ),
        TableView(table(grid, cells), "pass@k and the guess baseline", "guess"),
        note(
            "The baseline draws k responses without replacement from all responses to the other "
            "problems and compares their answers with the right answer. “Right answers” is the "
            "number of distinct ones. pass@k counts as clearly above its baseline if the limits of "
            f"the difference are above {MARGIN:g}. Smaller k, and cover@τ, reward guessing less. "
            "See arXiv 2510.08325 and arXiv 2410.15466.",
            _unknown_text(cells),
        ),
    ]


def shown_cells(grid: Grid) -> list[tuple[Cell, Guess]]:
    """Returns the cells with their baselines; empty if no baseline matters."""
    cells = [(cell, cell.guess) for cell in grid.cells if cell.guess]
    largest = max((guess.pass_at[max(guess.pass_at)].value for _, guess in cells), default=0.0)
    return cells if largest >= SHOWN_FROM else []


def table(grid: Grid, cells: list[tuple[Cell, Guess]]) -> Table:
    """Returns one row per cell: pass@k, the baseline, and what is above it with limits."""
    shared = set.intersection(*(set(guess.pass_at) for _, guess in cells))
    ks = thinned(sorted(shared), MAX_KS)
    header = [*grid.columns, "right answers"]
    for k in ks:
        header += [f"pass@{k}", f"guess@{k}", f"above at {k}"]
    rows = []
    for cell, guess in cells:
        row = [*grid.row(cell), str(guess.references)]
        for k in ks:
            value = estimate(cell.pass_at, k)
            row += [
                f"{value.value:.3f}" if value else "",
                f"{guess.pass_at[k].value:.3f}",
                change_text(guess.above[k]),
            ]
        rows.append(row)
    return Table(header, rows)


def warning(grid: Grid) -> str:
    """Returns one line if guessing may explain pass@k at the largest k, or a gain there; empty if
    it does not. It is about all problems at the temperature nearest 1."""
    if not grid.temperatures:
        return ""
    temperature = nearest_1(grid.temperatures)
    subset = ALL if ALL in grid.subsets else grid.subsets[0]
    guessed, gains = [], []
    for setting in (None, *grid.settings):
        name = setting.label if setting else "base"
        for cell in grid.at(setting, temperature, subset):
            if _may_be_guessed(cell):
                guessed.append((name, cell))
            elif _gain_may_be_guessed(cell):
                gains.append(name)
    texts = []
    if guessed:
        k = max(guessed[0][1].pass_at)
        texts.append(
            f"pass@{k} may be guessing: it is not clearly above the guess baseline for "
            f"{_named([_with_numbers(name, cell) for name, cell in guessed])}"
        )
    if gains:
        k = max(grid.ks)
        texts.append(
            f"the gain at k={k} may be guessing: the change of pass@{k} minus the guess baseline "
            f"is not clearly above 0 for {_named(gains)}"
        )
    return f"Note: {'; '.join(texts)}; compare smaller k, or cover@τ." if texts else ""


def _may_be_guessed(cell: Cell) -> bool:
    baseline, above = _at_largest_k(cell)
    return baseline >= WARNED_FROM and above is not None and above.low < MARGIN


def _gain_may_be_guessed(cell: Cell) -> bool:
    baseline, _ = _at_largest_k(cell)
    if cell.guess is None or not cell.guess.above_delta or baseline < WARNED_FROM:
        return False
    k = max(cell.guess.above_delta)
    change, above = estimate(cell.delta_to_base, k), as_estimate(cell.guess.above_delta[k])
    gains = change is not None and change.direction > 0
    return gains and above is not None and above.direction <= 0


def _at_largest_k(cell: Cell) -> tuple[float, Estimate | None]:
    """Returns the baseline, and pass@k minus it with limits."""
    if cell.guess is None:
        return 0.0, None
    k = max(cell.guess.pass_at)
    return cell.guess.pass_at[k].value, as_estimate(cell.guess.above[k])


def _with_numbers(name: str, cell: Cell) -> str:
    assert cell.guess
    k = max(cell.guess.pass_at)
    value = estimate(cell.pass_at, k)
    measured = f"{value.value:.3f}" if value else "unknown"
    return f"{name} ({measured}, baseline {cell.guess.pass_at[k].value:.3f})"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return listed(names[:MAX_NAMED]) + more


def _unknown_text(cells: list[tuple[Cell, Guess]]) -> str:
    unknown = max(guess.unknown for _, guess in cells)
    if not unknown:
        return ""
    return (
        f"The right answer of up to {unknown} problems is unknown, because no sample was right; "
        "their baseline counts as 0."
    )


SECTION = Section("Guessing", content)
