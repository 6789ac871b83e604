"""The structure of diversity: the same solutions, diverse across problems or within each problem.

Every problem has the same number of solutions. With data-level diversity, all solutions of a
problem have the same mode and different phrasings; with problem-level diversity, they are
distributed over the modes. Problems, examples and the shares of modes and phrasings are equal, so
that only the structure differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from random import Random

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import refuse
from forkdiv.core.shuffle import chosen
from forkdiv.tasks.base import derive

KNOBS = frozenset({"structure", "solutions", "mode_share", "synthesis"})
PHRASINGS = 4  # per mode, so that four solutions of one mode are distinct


def problems_of(config: DatasetConfig, examples: int) -> int:
    """Returns the number of problems, with `solutions` examples for each.

    Raises UserError for numbers with which the structures would differ in other respects, too.
    """
    if config.solutions not in (2, PHRASINGS):
        raise refuse(
            f"dataset.solutions does not fit a task of two modes with {PHRASINGS} phrasings each",
            f"dataset.solutions={config.solutions}",
            "2 or 4",
            "set dataset.solutions to 2 or 4",
        )
    count, rest = divmod(examples, config.solutions)
    if rest:
        raise refuse(
            "the number of examples must be a multiple of the solutions per problem",
            f"dataset.examples={examples}",
            f"a multiple of dataset.solutions={config.solutions}",
            "correct dataset.examples",
        )
    share = Fraction(config.mode_share).limit_denominator(10_000)
    for whole, what in ((config.solutions, "solutions of a problem"), (count, "problems")):
        if (share * whole).denominator != 1:
            raise refuse(
                f"dataset.mode_share does not give a whole number out of {whole} {what}",
                config.mode_share,
                "a share that gives whole numbers of problems and of solutions, such as 0.5",
                "correct dataset.mode_share or dataset.examples",
            )
    return count


def modes_and_phrasings(
    config: DatasetConfig, count: int, modes: tuple[str, str]
) -> Iterator[list[tuple[str, int]]]:
    """Yields, for each of `count` problems, the mode and phrasing of each of its solutions."""
    of_first = round(config.solutions * config.mode_share)
    first_mode = chosen(count, config.mode_share, f"modes/{config.seed}")
    for index in range(count):
        random = derive("phrasings", config.seed, index)
        if config.structure == "data-level":
            by_mode = {modes[0] if index in first_mode else modes[1]: config.solutions}
        else:
            by_mode = {modes[0]: of_first, modes[1]: config.solutions - of_first}
        yield [
            (mode, phrasing)
            for mode, solutions in by_mode.items()
            for phrasing in _phrasings(solutions, random)
        ]


def _phrasings(solutions: int, random: Random) -> list[int]:
    return random.sample(range(PHRASINGS), solutions)
