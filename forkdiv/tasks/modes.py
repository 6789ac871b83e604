"""The structure of diversity: the same solutions, spread within problems or across them.

Every problem is shown with the same number of solutions. Data-level, all of them are told in
one mode, differently phrased; problem-level, they are spread over the modes. Problems,
examples, the share of each mode and of each phrasing are equal, so that nothing but the
structure differs.
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
PHRASINGS = 4  # of each mode, so that one mode alone can tell four solutions apart


def problems_of(config: DatasetConfig, examples: int) -> int:
    """How many problems the examples are, `solutions` to each.

    Raises UserError where the numbers would make the two structures differ in more.
    """
    if config.solutions not in (2, PHRASINGS):
        raise refuse(
            "a mode can be phrased in four ways only, over two modes in equal parts",
            f"dataset.solutions={config.solutions}",
            "2 or 4",
            "correct dataset.solutions",
        )
    count, rest = divmod(examples, config.solutions)
    if rest:
        raise refuse(
            "the examples do not divide over the solutions of each problem",
            f"dataset.examples={examples}",
            f"a multiple of dataset.solutions={config.solutions}",
            "correct dataset.examples",
        )
    share = Fraction(config.mode_share).limit_denominator(10_000)
    for whole, what in ((config.solutions, "solutions of a problem"), (count, "problems")):
        if (share * whole).denominator != 1:
            raise refuse(
                f"dataset.mode_share gives no whole number of the {whole} {what}",
                config.mode_share,
                "a share of which both structures can be made, such as 0.5",
                "correct dataset.mode_share or dataset.examples",
            )
    return count


def tellings(
    config: DatasetConfig, count: int, modes: tuple[str, str]
) -> Iterator[list[tuple[str, int]]]:
    """For each of `count` problems, the mode and the phrasing of each of its solutions."""
    of_first = round(config.solutions * config.mode_share)
    told_first = chosen(count, config.mode_share, f"modes/{config.seed}")
    for at in range(count):
        random = derive("phrasings", config.seed, at)
        if config.structure == "data-level":
            told = {modes[0] if at in told_first else modes[1]: config.solutions}
        else:
            told = {modes[0]: of_first, modes[1]: config.solutions - of_first}
        yield [
            (mode, phrasing)
            for mode, solutions in told.items()
            for phrasing in _phrasings(solutions, random)
        ]


def _phrasings(solutions: int, random: Random) -> list[int]:
    return random.sample(range(PHRASINGS), solutions)
