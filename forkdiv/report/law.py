"""The coverage law: what more samples than were drawn might give, and how far to trust that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from markupsafe import Markup

from forkdiv.core.results import Interval, Law, Summary
from forkdiv.report.grid import Grid, as_estimate, signed
from forkdiv.report.section import Content, Section, TableView, note, paragraph
from forkdiv.report.tables import Table


def content(summary: Summary, grid: Grid) -> Content | None:
    fits = table(grid)
    if not fits:
        return None
    return [
        paragraph(
            Markup(
                "pass@k is close to exp(a·k<sup>b</sup>) with a and b below 0; fitted to the k "
                "that were measured, it says what more samples might give. That is a guess about "
                "samples nobody drew. Its limits are those of other problems and other samples "
                "<em>if the law holds</em>; how wrong the law itself is, they do not say, and the "
                "check below does, as far as the samples reach."
            ),
            worst(grid),
            without(grid),
        ),
        TableView(fits, f"The coverage law of each cell, with {grid.percent} limits", "law"),
        note(
            "“k=56 from 8” is a check: fitted to 8 of each problem's samples, drawn at random, it "
            "predicts pass@56, which the 56 samples that it did not see measured. Off by: "
            "predicted minus measured. “beta” is another way: the chances of the problems follow "
            "a beta distribution, fitted to the counts of right samples by maximum likelihood."
        ),
    ]


def table(grid: Grid) -> Table | None:
    """One row per cell with a fit; None where there is none."""
    fitted = [(cell, cell.law) for cell in grid.cells if cell.law]
    if not fitted:
        return None
    asked = sorted({k for _, law in fitted for k in law.predictions})
    header = [*grid.columns, "a", "b", *(f"predicted pass@{k}" for k in asked)]
    header += ["checked", "predicted there", "measured there", "off by"]
    rows = [[*grid.row(cell), *_row(law, asked)] for cell, law in fitted]
    if any(law.rival for _, law in fitted):
        header += [*(f"beta: pass@{k}" for k in asked), "beta: off by"]
        rows = [[*row, *_rival(law, asked)] for row, (_, law) in zip(rows, fitted, strict=True)]
    return Table(header, rows)


def worst(grid: Grid) -> str:
    """The held-out check in a sentence; empty where none was made."""
    checked = [cell.law.heldout for cell in grid.cells if cell.law and cell.law.heldout]
    errors = [abs(one.error) for one in checked]
    if not errors:
        return ""
    outside = sum(1 for one in checked if not _overlap(one.predicted, one.observed))
    apart = "none" if not outside else str(outside)
    return (
        f"Checked in {len(errors)} cells by fitting it to a part of each problem's samples and "
        f"asking all the others: it missed the measured value by up to {max(errors):.3f}, and in "
        f"{apart} of them the two intervals lie apart." + _nearer(grid)
    )


def _nearer(grid: Grid) -> str:
    """How often the rival came nearer, where both were checked."""
    laws = [cell.law for cell in grid.cells if cell.law]
    both = [
        (abs(law.heldout.error), abs(law.rival.heldout.error))
        for law in laws
        if law.heldout and law.rival and law.rival.heldout
    ]
    if not both:
        return ""
    nearer = sum(1 for law, rival in both if rival < law)
    return (
        f" Beta-distributed chances of the problems, checked in the same way, missed by up to "
        f"{max(rival for _, rival in both):.3f} and were nearer in {nearer} of {len(both)}: go by "
        f"what was nearer in a cell's own row."
    )


def without(grid: Grid) -> str:
    """How many cells have no law and why, in a sentence; empty where all have one."""
    reasons = Counter(cell.no_law for cell in grid.cells if cell.no_law)
    told = "; ".join(f"in {cells}, {reason}" for reason, cells in reasons.most_common())
    return f"Not fitted in {reasons.total()} cells: {told}." if told else ""


def _row(law: Law, asked: list[int]) -> list[str]:
    row = [
        f"{value:.3f} ({signed(low)} to {signed(high)})".replace("-", "\N{MINUS SIGN}")
        for value, low, high in ((law.a, law.a_low, law.a_high), (law.b, law.b_low, law.b_high))
    ]
    row += _predicted(law.predictions, asked)
    check = law.heldout
    if not check:
        return [*row, "", "", "", ""]
    sides = [as_estimate(check.predicted), as_estimate(check.observed)]
    said = [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" if one else "" for one in sides]
    off = signed(check.error)
    return [*row, f"k={check.at_k} from {check.fit_n}", *said, off]


def _rival(law: Law, asked: list[int]) -> list[str]:
    """What beta-distributed chances predict, and how far off they were."""
    rival = law.rival
    if not rival:
        return [""] * (len(asked) + 1)
    check = rival.heldout
    return [*_predicted(rival.predictions, asked), signed(check.error) if check else ""]


def _predicted(predictions: Mapping[int, Interval], asked: list[int]) -> list[str]:
    told = [as_estimate(predictions.get(k)) for k in asked]
    return [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" if one else "" for one in told]


def _overlap(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


SECTION = Section("Beyond the samples drawn", content)
