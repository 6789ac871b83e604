"""A note on what the number of SFT seeds allows to conclude."""

from __future__ import annotations

from scipy.special import ndtri, stdtrit

from forkdiv.report.grid import Grid

MAX_FEW_SEEDS = 4


def seed_note(grid: Grid) -> str:
    """Returns the note; empty if there are enough seeds."""
    count = len(grid.seeds)
    if count == 0 or count > MAX_FEW_SEEDS:
        return ""
    if count == 1:
        return (
            "One SFT seed: every interval is over the problems. It shows how certain the "
            "difference between these models and the base is on problems of this kind. The model "
            "of another seed may differ by more than the interval."
        )
    t, z = t_factor(count, grid.confidence), float(ndtri(0.5 + grid.confidence / 2))
    return (
        f"{count} SFT seeds: an interval takes {t:.1f} standard errors of their mean to each side "
        f"(Student's t; {z:.2f} with many seeds), so only changes that are large compared with the "
        f"spread of the seeds are clear. A change that is not clear may still exist; more seeds "
        f"may show it."
    )


def t_factor(seeds: int, confidence: float) -> float:
    """Returns the two-sided quantile of Student's t for the mean of `seeds` seeds."""
    return float(stdtrit(seeds - 1, 0.5 + confidence / 2))
