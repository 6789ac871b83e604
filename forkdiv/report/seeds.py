"""What the number of SFT seeds lets a reader conclude."""

from __future__ import annotations

from scipy.special import ndtri, stdtrit

from forkdiv.report.grid import Grid

FEW = 4


def about(grid: Grid) -> str:
    """In words; empty where there are enough that nothing needs to be said."""
    count = len(grid.seeds)
    if count == 0 or count > FEW:
        return ""
    if count == 1:
        return (
            "One SFT seed: every interval here is over the problems, so it says how surely these "
            "very models differ from the base on problems of this kind. Nothing follows for "
            "another seed, whose model may differ by more than the interval."
        )
    t, z = t_factor(count, grid.confidence), float(ndtri(0.5 + grid.confidence / 2))
    return (
        f"{count} SFT seeds: an interval takes {t:.1f} standard errors of their mean to each side "
        f"(Student's t; {z:.2f} with many seeds), so only changes that are large beside the spread "
        f"of the seeds are called clear. One that is not is not shown to be absent: more seeds "
        f"may tell."
    )


def t_factor(seeds: int, confidence: float) -> float:
    """Student's t quantile for the mean of so many seeds, two-sided."""
    return float(stdtrit(seeds - 1, 0.5 + confidence / 2))
