"""The coverage law: predictions for more samples than were drawn, and their held-out check."""

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
                "pass@k is close to exp(a·k<sup>b</sup>) with a and b below 0. This law is fitted "
                "to the measured k and predicts pass@k for more samples than were drawn. Its "
                "limits describe the variation over problems and samples <em>if the law "
                "holds</em>. They do not show the error of the law itself; the held-out check "
                "does, up to the number of samples."
            ),
            check_sentence(grid),
            missing_sentence(grid),
        ),
        TableView(fits, f"The coverage law of each cell, with {grid.percent} limits", "law"),
        note(
            "Check “k=56 from 8”: the law is fitted to 8 random samples of each problem and "
            "predicts pass@56, which is measured with the 56 other samples. Error: predicted minus "
            "measured. “beta” is an alternative model: the success probabilities of the problems "
            "follow a beta distribution, fitted to the counts of correct samples by maximum "
            "likelihood."
        ),
    ]


def table(grid: Grid) -> Table | None:
    """Returns one row for each cell with a fit; None without any fit."""
    fitted = [(cell, cell.law) for cell in grid.cells if cell.law]
    if not fitted:
        return None
    ks = sorted({k for _, law in fitted for k in law.predictions})
    header = [*grid.columns, "a", "b", *(f"predicted pass@{k}" for k in ks)]
    header += ["check", "predicted", "measured", "error"]
    rows = [[*grid.row(cell), *_row(law, ks)] for cell, law in fitted]
    if any(law.rival for _, law in fitted):
        header += [*(f"beta: pass@{k}" for k in ks), "beta: error"]
        rows = [[*row, *_rival(law, ks)] for row, (_, law) in zip(rows, fitted, strict=True)]
    return Table(header, rows)


def check_sentence(grid: Grid) -> str:
    """Returns the held-out check in a sentence; empty without a check."""
    checks = [cell.law.heldout for cell in grid.cells if cell.law and cell.law.heldout]
    errors = [abs(check.error) for check in checks]
    if not errors:
        return ""
    outside = sum(1 for check in checks if not _overlap(check.predicted, check.observed))
    not_overlapping = "none" if not outside else str(outside)
    return (
        f"Checked in {len(errors)} cells by fitting the law to a part of each problem's samples "
        f"and predicting the others: the error was up to {max(errors):.3f}, and in "
        f"{not_overlapping} of them the two intervals do not overlap." + _rival_sentence(grid)
    )


def _rival_sentence(grid: Grid) -> str:
    """Returns how often the beta model had the smaller error, for cells where both were checked."""
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
        f" For the beta model, the error was up to {max(rival for _, rival in both):.3f}, and "
        f"smaller than that of the law in {nearer} of {len(both)} cells. In each row, prefer the "
        f"model with the smaller error."
    )


def missing_sentence(grid: Grid) -> str:
    """Returns the number of cells without a law and the reasons; empty if all have one."""
    reasons = Counter(cell.no_law for cell in grid.cells if cell.no_law)
    parts = "; ".join(f"in {cells}, {reason}" for reason, cells in reasons.most_common())
    return f"Not fitted in {reasons.total()} cells: {parts}." if parts else ""


def _row(law: Law, ks: list[int]) -> list[str]:
    row = [
        f"{value:.3f} ({signed(low)} to {signed(high)})".replace("-", "\N{MINUS SIGN}")
        for value, low, high in ((law.a, law.a_low, law.a_high), (law.b, law.b_low, law.b_high))
    ]
    row += _predicted(law.predictions, ks)
    check = law.heldout
    if not check:
        return [*row, "", "", "", ""]
    estimates = [as_estimate(check.predicted), as_estimate(check.observed)]
    intervals = [
        f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})" if value else ""
        for value in estimates
    ]
    error = signed(check.error)
    return [*row, f"k={check.at_k} from {check.fit_n}", *intervals, error]


def _rival(law: Law, ks: list[int]) -> list[str]:
    """Returns the predictions of the beta model, and its error."""
    rival = law.rival
    if not rival:
        return [""] * (len(ks) + 1)
    check = rival.heldout
    return [*_predicted(rival.predictions, ks), signed(check.error) if check else ""]


def _predicted(predictions: Mapping[int, Interval], ks: list[int]) -> list[str]:
    estimates = [as_estimate(predictions.get(k)) for k in ks]
    return [
        f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})" if value else ""
        for value in estimates
    ]


def _overlap(first: Interval, second: Interval) -> bool:
    return first.low <= second.high and second.low <= first.high


SECTION = Section("Prediction for more samples", content)
