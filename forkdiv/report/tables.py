"""The tables of a study: headers and rows of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import Grid, decoders_of, estimate, signed, under

Row = list[str]

# to be aligned left
TEXT_COLUMNS = (
    *("model", "decoder", "structure", "synthesis", "loss", "subset", "mode", "kind", "study"),
)
UNREAD = ("errors", "truncated", "unparsable")
MOST_REASONS = 8  # a grader's reasons may be free text
OPEN_ROWS = 12  # a table that a page shows at once
WILSON = "†"  # marks limits that hold more often than the confidence says


@dataclass(frozen=True)
class First:
    """Some rows of a table under some of its columns; `said` tells which, after its title."""

    header: Row
    rows: list[Row]
    said: str


@dataclass(frozen=True)
class Table:
    """`first` is what a reader sees at once, where that is less than all."""

    header: Row
    rows: list[Row]
    first: First | None = field(default=None, kw_only=True)

    @property
    def is_short(self) -> bool:
        return len(self.rows) <= OPEN_ROWS


@dataclass(frozen=True)
class Losses(Table):
    """`touched` counts the cells that have errors, truncated and unparsable answers."""

    touched: dict[str, int]


@dataclass(frozen=True)
class Agreements(Table):
    """`agree` counts the cells that do; `worst` is the largest difference in standard errors."""

    agree: int
    worst: str


@dataclass(frozen=True)
class Modes(Table):
    names: list[str]


def of_decoders(summary: Summary) -> Table | None:
    """`numbers` under each decoder, one's rows after the other's, at the ends of the k that all
    were measured at; None where the study does not vary decoders."""
    names = decoders_of(summary)
    if len(names) < 2:
        return None
    grids = {name: Grid.of(under(summary, name)) for name in names}
    measured = [set(grid.ks) for grid in grids.values() if grid.ks]
    shared = set.intersection(*measured) if measured else set()
    ends = tuple(sorted({min(shared), max(shared)})) if shared else ()
    made = {name: numbers(grid, ends) for name, grid in grids.items()}
    rows = [[str(name), *row] for name, one in made.items() for row in one.rows]
    return Table(["decoder", *made[names[0]].header], rows)


def numbers(grid: Grid, ends: Sequence[int] | None = None) -> Table:
    """pass@k and its change to the base at every k, or at `ends`: one row per cell, base first."""
    ends = grid.ks if ends is None else ends
    header = list(grid.columns)
    for k in ends:
        header += [f"pass@{k}", f"change at {k}"]
    rows = []
    for cell in grid.cells:
        row = grid.row(cell)
        for k in ends:
            row += [pass_said(cell, k), change_said(cell, k)]
        rows.append([*row, str(cell.truncated), str(cell.unparsable)])
    return Table([*header, "truncated", "unparsable"], rows)


def long(grid: Grid) -> Table:
    """The numbers of `numbers` one by one, for other programs: a row per cell and k."""
    header = [*grid.columns, "k", "pass@k", "low", "high", "change", "change low", "change high"]
    rows = []
    for cell in grid.cells:
        for k in cell.pass_at:
            row = [*grid.row(cell), str(k)]
            for one in (estimate(cell.pass_at, k), estimate(cell.delta_to_base, k)):
                row += [repr(v) for v in (one.value, one.low, one.high)] if one else [""] * 3
            rows.append(row)
    return Table(header, rows)


def losses(grid: Grid) -> Losses:
    """Answers that were not correct, by reason, and pass@k had the unread ones been correct.

    The most frequent reasons have a column each, the others share one.
    """
    total: Counter[str] = Counter()
    for cell in grid.cells:
        total.update(cell.lost)
    kinds = sorted(total, key=lambda reason: (-total[reason], reason))
    kept, others = kinds[:MOST_REASONS], kinds[MOST_REASONS:]
    more = [f"{len(others)} other reasons"] if others else []
    header = [*grid.columns, "answers", *UNREAD, *kept, *more]
    for k in grid.ends:
        header += [f"pass@{k}", "at best"]
    rows = []
    for cell in grid.cells:
        counts = [cell.n_problems * cell.n_samples, *_unread(cell).values()]
        counts += [cell.lost.get(reason, 0) for reason in kept]
        counts += [sum(cell.lost.get(reason, 0) for reason in others)] if others else []
        row = [*grid.row(cell), *(f"{count:,}" for count in counts)]
        for k in grid.ends:
            best = cell.best_case_pass_at.get(k)
            row += [pass_said(cell, k), "" if best is None else f"{best:.3f}"]
        rows.append(row)
    touched = {kind: sum(1 for cell in grid.cells if _unread(cell)[kind]) for kind in UNREAD}
    return Losses(header, rows, touched)


def _unread(cell: Cell) -> dict[str, int]:
    counts = (cell.errors, cell.truncated, cell.unparsable)
    return dict(zip(UNREAD, counts, strict=True))


def agreements(grid: Grid) -> Agreements:
    """Sampled beside exact pass@k, for the cells where both are known."""
    header = list(grid.columns)
    for k in grid.ends:
        header += [f"sampled pass@{k}", f"exact pass@{k}"]
    rows, agree, worst = [], 0, 0.0
    for cell in grid.cells:
        found = cell.agreement
        if not found:
            continue
        agree += found.agrees
        worst = max(worst, abs(found.worst_z))
        row = grid.row(cell)
        for k in grid.ends:
            exact = cell.exact_pass_at.get(k)
            row += [pass_said(cell, k), "" if exact is None else f"{exact:.3f}"]
        z = f"{signed(found.worst_z, 1)} s.e. at k={found.at_k}"
        rows.append([*row, z, "yes" if found.agrees else "NO"])
    return Agreements([*header, "largest difference", "agrees"], rows, agree, f"{worst:.1f}")


def modes(grid: Grid) -> Modes | None:
    """pass@k given how a response is told; None where every response is told alike."""
    told = [cell for cell in grid.cells if cell.modes]
    if all(_is_alike(cell) for cell in told):
        return None
    header = [*grid.columns, "mode", "share of samples"]
    ks = _mode_ks(grid, told)
    for k in ks:
        header += [f"pass@{k} given the mode", f"problems with {k} or more"]
    rows = []
    for cell in told:
        for name, mode in cell.modes.items():
            row = [*grid.row(cell), name, f"{mode.share:.3f}"]
            for k in ks:
                entry = mode.pass_at.get(k)
                row += [f"{entry.value:.3f}", str(entry.problems)] if entry else ["none", "0"]
            rows.append(row)
    names = list(dict.fromkeys(name for cell in told for name in cell.modes))
    return Modes(header, rows, names)


def _is_alike(cell: Cell) -> bool:
    """Whether all samples of a cell are told in one mode; rounding errors do not count."""
    return len(cell.modes) == 1 and all(mode.share > 1 - 1e-9 for mode in cell.modes.values())


def _mode_ks(grid: Grid, told: list[Cell]) -> list[int]:
    """The ends, and between them the largest k at which most modes still rest on at least half
    of their cell's problems: no problem has as many samples of each mode as of both."""
    behind = {
        k: [
            k in mode.pass_at and 2 * mode.pass_at[k].problems >= cell.n_problems
            for cell in told
            for mode in cell.modes.values()
        ]
        for k in grid.ks
    }
    between = [k for k, enough in behind.items() if 2 * sum(enough) > len(enough)]
    return sorted({*grid.ends, *between[-1:]})


def pass_said(cell: Cell, k: int) -> str:
    value = estimate(cell.pass_at, k)
    return f"{value.value:.3f}" if value else "invalid"


def change_said(cell: Cell, k: int) -> str:
    """The change to the base with its limits, marked where those are of Wilson's kind; empty
    of the base."""
    change = estimate(cell.delta_to_base, k)
    if not change:
        return ""
    value, limits = change.parts(3)
    is_wilson = cell.delta_to_base[k].method == "wilson"
    return f"{value} ({limits}){WILSON if is_wilson else ''}"
