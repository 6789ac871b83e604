"""The tables of a study: headers and rows of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import Grid, decoders_of, estimate, signed, with_decoder

Row = list[str]

# aligned left
TEXT_COLUMNS = (
    *("model", "decoder", "structure", "synthesis", "loss", "subset", "mode", "kind", "study"),
)
UNREADABLE = ("errors", "truncated", "unparsable")
MAX_REASONS = 8  # reasons of a grader may be free text
MAX_OPEN_ROWS = 12  # longer tables are collapsed on the page
WILSON = "†"  # marks conservative limits


@dataclass(frozen=True)
class FirstRows:
    """Some rows and columns of a table; `conditions` describes them and follows the caption."""

    header: Row
    rows: list[Row]
    conditions: str


@dataclass(frozen=True)
class Table:
    """`first` are the rows that are shown first, if not all."""

    header: Row
    rows: list[Row]
    first: FirstRows | None = field(default=None, kw_only=True)

    @property
    def is_short(self) -> bool:
        return len(self.rows) <= MAX_OPEN_ROWS


@dataclass(frozen=True)
class Losses(Table):
    """`affected` counts the cells with errors, truncated and unparsable samples."""

    affected: dict[str, int]


@dataclass(frozen=True)
class Agreements(Table):
    """`agree` counts the cells that agree; `worst` is the largest difference in standard errors."""

    agree: int
    worst: str


@dataclass(frozen=True)
class Modes(Table):
    names: list[str]


def by_decoder(summary: Summary) -> Table | None:
    """Returns the rows of `numbers` for each decoder, at the smallest and the largest k that all
    decoders have; None if the study has one decoder."""
    names = decoders_of(summary)
    if len(names) < 2:
        return None
    grids = {name: Grid.of(with_decoder(summary, name)) for name in names}
    ks_by_decoder = [set(grid.ks) for grid in grids.values() if grid.ks]
    shared_ks = set.intersection(*ks_by_decoder) if ks_by_decoder else set()
    ends = tuple(sorted({min(shared_ks), max(shared_ks)})) if shared_ks else ()
    tables_by_decoder = {name: numbers(grid, ends) for name, grid in grids.items()}
    rows = [[str(name), *row] for name, table in tables_by_decoder.items() for row in table.rows]
    return Table(["decoder", *tables_by_decoder[names[0]].header], rows)


def numbers(grid: Grid, ends: Sequence[int] | None = None) -> Table:
    """Returns pass@k and its change to the base at every k, or at `ends`: one row for each cell,
    base first."""
    ends = grid.ks if ends is None else ends
    header = list(grid.columns)
    for k in ends:
        header += [f"pass@{k}", f"change at {k}"]
    rows = []
    for cell in grid.cells:
        row = grid.row(cell)
        for k in ends:
            row += [pass_at_text(cell, k), change_text(cell, k)]
        rows.append([*row, str(cell.truncated), str(cell.unparsable)])
    return Table([*header, "truncated", "unparsable"], rows)


def long(grid: Grid) -> Table:
    """Returns the values of `numbers` in long format: one row for each cell and k."""
    header = [*grid.columns, "k", "pass@k", "low", "high", "change", "change low", "change high"]
    rows = []
    for cell in grid.cells:
        for k in cell.pass_at:
            row = [*grid.row(cell), str(k)]
            for value in (estimate(cell.pass_at, k), estimate(cell.delta_to_base, k)):
                row += (
                    [repr(v) for v in (value.value, value.low, value.high)] if value else [""] * 3
                )
            rows.append(row)
    return Table(header, rows)


def losses(grid: Grid) -> Losses:
    """Returns the samples that were not correct by reason, and pass@k if the unreadable ones were
    correct. Each of the most frequent reasons has a column, the others share one."""
    total: Counter[str] = Counter()
    for cell in grid.cells:
        total.update(cell.lost)
    reasons = sorted(total, key=lambda reason: (-total[reason], reason))
    listed, unlisted = reasons[:MAX_REASONS], reasons[MAX_REASONS:]
    unlisted_title = [f"{len(unlisted)} other reasons"] if unlisted else []
    header = [*grid.columns, "samples", *UNREADABLE, *listed, *unlisted_title]
    for k in grid.ends:
        header += [f"pass@{k}", "at best"]
    rows = []
    for cell in grid.cells:
        counts = [cell.n_problems * cell.n_samples, *_unreadable_counts(cell).values()]
        counts += [cell.lost.get(reason, 0) for reason in listed]
        counts += [sum(cell.lost.get(reason, 0) for reason in unlisted)] if unlisted else []
        row = [*grid.row(cell), *(f"{count:,}" for count in counts)]
        for k in grid.ends:
            best = cell.best_case_pass_at.get(k)
            row += [pass_at_text(cell, k), "" if best is None else f"{best:.3f}"]
        rows.append(row)
    affected = {
        kind: sum(1 for cell in grid.cells if _unreadable_counts(cell)[kind]) for kind in UNREADABLE
    }
    return Losses(header, rows, affected)


def _unreadable_counts(cell: Cell) -> dict[str, int]:
    counts = (cell.errors, cell.truncated, cell.unparsable)
    return dict(zip(UNREADABLE, counts, strict=True))


def agreements(grid: Grid) -> Agreements:
    """Returns sampled and exact pass@k of the cells that have both."""
    header = list(grid.columns)
    for k in grid.ends:
        header += [f"sampled pass@{k}", f"exact pass@{k}"]
    rows, agree, worst = [], 0, 0.0
    for cell in grid.cells:
        agreement = cell.agreement
        if not agreement:
            continue
        agree += agreement.agrees
        worst = max(worst, abs(agreement.worst_z))
        row = grid.row(cell)
        for k in grid.ends:
            exact = cell.exact_pass_at.get(k)
            row += [pass_at_text(cell, k), "" if exact is None else f"{exact:.3f}"]
        z = f"{signed(agreement.worst_z, 1)} s.e. at k={agreement.at_k}"
        rows.append([*row, z, "yes" if agreement.agrees else "NO"])
    return Agreements([*header, "largest difference", "agrees"], rows, agree, f"{worst:.1f}")


def modes(grid: Grid) -> Modes | None:
    """Returns pass@k given the response mode; None if every cell has a single mode."""
    with_modes = [cell for cell in grid.cells if cell.modes]
    if all(_has_single_mode(cell) for cell in with_modes):
        return None
    header = [*grid.columns, "mode", "share of samples"]
    ks = _mode_ks(grid, with_modes)
    for k in ks:
        header += [f"pass@{k} given the mode", f"problems with {k} or more"]
    rows = []
    for cell in with_modes:
        for name, mode in cell.modes.items():
            row = [*grid.row(cell), name, f"{mode.share:.3f}"]
            for k in ks:
                entry = mode.pass_at.get(k)
                row += [f"{entry.value:.3f}", str(entry.problems)] if entry else ["none", "0"]
            rows.append(row)
    names = list(dict.fromkeys(name for cell in with_modes for name in cell.modes))
    return Modes(header, rows, names)


def _has_single_mode(cell: Cell) -> bool:
    """Returns whether all samples of a cell have one mode, up to rounding errors."""
    return len(cell.modes) == 1 and all(mode.share > 1 - 1e-9 for mode in cell.modes.values())


def _mode_ks(grid: Grid, with_modes: list[Cell]) -> list[int]:
    """Returns the smallest and the largest k, and the largest k at which most modes still use at
    least half of the problems of their cell: a problem has fewer samples of one mode than of all
    modes together."""
    supported = {
        k: [
            k in mode.pass_at and 2 * mode.pass_at[k].problems >= cell.n_problems
            for cell in with_modes
            for mode in cell.modes.values()
        ]
        for k in grid.ks
    }
    supported_ks = [k for k, support in supported.items() if 2 * sum(support) > len(support)]
    return sorted({*grid.ends, *supported_ks[-1:]})


def pass_at_text(cell: Cell, k: int) -> str:
    value = estimate(cell.pass_at, k)
    return f"{value.value:.3f}" if value else "invalid"


def change_text(cell: Cell, k: int) -> str:
    """Returns the change to the base with its limits, with a mark for Wilson limits; empty for the
    base."""
    change = estimate(cell.delta_to_base, k)
    if not change:
        return ""
    value, limits = change.parts(3)
    is_wilson = cell.delta_to_base[k].method == "wilson"
    return f"{value} ({limits}){WILSON if is_wilson else ''}"
