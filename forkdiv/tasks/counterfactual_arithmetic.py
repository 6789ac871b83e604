r"""Counterfactual arithmetic: two-digit additions in unusual bases, for evaluation only.

    In base 12 the digits are 0123456789AB. Calculating in base 12, what is 6A + 18?
    Work it out step by step and give the sum, in base 12, in \boxed{}.

The answer is 86:

    Ones: A (10) plus 8 is 18, which is 1 * 12 + 6. Write 6 and carry 1.
    Next: 6 plus 1 plus the carry is 8, which is 0 * 12 + 8. Write 8 and carry 0.
    The digits in order give 86.
    The answer is \boxed{86}.

Added as in base ten it would be 88. Problems whose sum is the same in both bases are left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.records import Outcome, Problem, Trace, Verdict
from forkdiv.core.shuffle import Shuffled
from forkdiv.tasks.base import Task, even_count
from forkdiv.tasks.graders.latex import last_box_or_none

DIGITS = "0123456789ABCDEF"
WORDS = "words"
SPLIT_BUCKETS = {"validation": range(4), "test": range(4, 16)}

# Reasons why an answer is wrong or cannot be parsed.
DECIMAL_SUM = "the base-10 sum"
DECIMAL_VALUE = "the right sum, written in base 10"
OTHER_ANSWER = "another answer"
NO_BOX = "no boxed answer"
NO_NUMBER = "the boxed answer is no number of the base"

Pair = tuple[int, int]


def in_base(number: int, base: int) -> str:
    """Returns a non-negative number as digits of the base, with A for ten."""
    digits = ""
    while number or not digits:
        number, digit = divmod(number, base)
        digits = DIGITS[digit] + digits
    return digits


def decimal_sum(first: str, second: str) -> str:
    """Returns the sum if both numbers are read in base ten (a digit A still counts as ten)."""
    numbers = (first, second)
    return str(sum(10 * DIGITS.index(text[0]) + DIGITS.index(text[1]) for text in numbers))


class CounterfactualConfig(TaskConfig):
    """Two-digit additions in unusual number bases. For evaluation only: `forkdiv sample`, `compare`
    and `evaluate` with a checkpoint accept it; `train`, `dataset` and `study` do not."""

    kind: Literal["counterfactual_arithmetic"] = "counterfactual_arithmetic"
    bases: tuple[Annotated[int, Field(ge=3, le=16)], ...] = Field(
        (7, 9, 11, 12), description="Number bases, each once; each base is a subset of the results."
    )

    @model_validator(mode="after")
    def _some_bases(self) -> Self:
        if not self.bases or len(set(self.bases)) != len(self.bases):
            raise ValueError(
                f"bases must be distinct and not empty: got {list(self.bases)}; allowed: one base "
                "or more, each once; correct task.bases"
            )
        return self


class CounterfactualArithmetic(Task):
    """The task; the module docstring shows a problem."""

    config_class = CounterfactualConfig
    config: CounterfactualConfig

    def __init__(self, config: CounterfactualConfig) -> None:
        super().__init__(config)
        self.subsets = tuple(f"base {base}" for base in config.bases)
        self.sizes = {"validation": 50 * len(config.bases), "test": 250 * len(config.bases)}

    def available(self, split: str) -> int:
        """The number of problems of the base with the fewest, times the number of bases. a + b and
        b + a are one problem."""
        if split not in SPLIT_BUCKETS:
            return 0
        return len(self.config.bases) * min(len(self._pairs[split, b]) for b in self.config.bases)

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        """Problems of the bases in turn. Raises UserError if the split has fewer."""
        requested = even_count(self, split, count)
        bases = self.config.bases
        orders = {
            base: Shuffled(len(self._pairs[split, base]), f"{split}/{base}/{self.config.seed}")
            for base in bases
        }
        problems = []
        for i in range(requested):
            base = bases[i % len(bases)]
            pair = self._pairs[split, base][orders[base](i // len(bases))]
            problems.append(_problem(base, pair, split))
        return problems

    def solutions(self, problem: Problem) -> list[Trace]:
        """The addition in words, column by column."""
        facts = problem.facts
        base, first, second = facts["base"], facts["first"], facts["second"]
        ones = DIGITS.index(first[1]) + DIGITS.index(second[1])
        carry, unit = divmod(ones, base)
        more = DIGITS.index(first[0]) + DIGITS.index(second[0]) + carry
        head, middle = divmod(more, base)
        lines = [
            f"Ones: {_worth(first[1])} plus {_worth(second[1])} is {ones}, which is "
            f"{carry} * {base} + {unit}. Write {DIGITS[unit]} and carry {carry}.",
            f"Next: {_worth(first[0])} plus {_worth(second[0])} plus the carry is {more}, which is "
            f"{head} * {base} + {middle}. Write {DIGITS[middle]} and carry {head}.",
            f"The digits in order give {facts['answer']}.",
            rf"The answer is \boxed{{{facts['answer']}}}.",
        ]
        return [Trace("\n".join(lines), WORDS)]

    def references(self, problem: Problem) -> Sequence[str]:
        return (problem.facts["answer"],)

    def verify(self, problem: Problem, text: str) -> Verdict:
        r"""Reads the last `\boxed{}` as a number in the problem's base, in upper or lower case,
        optionally with leading zeros, spaces, dollar signs or the base as a subscript.

        The two typical base-ten answers count as wrong even if they have a digit that the base
        lacks; any other number with such a digit is unparsable.
        """
        box, facts = last_box_or_none(text), problem.facts
        base = facts["base"]
        if box is None:
            return Verdict(Outcome.UNPARSABLE, None, NO_BOX)
        subscript = rf"(?:\s*_\s*(?:{base}|\{{\s*{base}\s*\}}))?"
        number = re.fullmatch(rf"0*([0-9A-Z]+){subscript}", box.strip("$ \n\t").upper())
        if number is None:
            return Verdict(Outcome.UNPARSABLE, None, NO_NUMBER)
        answer = number[1]
        if answer == facts["answer"]:
            return Verdict(Outcome.CORRECT, answer)
        if answer == decimal_sum(facts["first"], facts["second"]):
            return Verdict(Outcome.WRONG, answer, DECIMAL_SUM)
        if answer == str(int(facts["answer"], base)):
            return Verdict(Outcome.WRONG, answer, DECIMAL_VALUE)
        if not set(answer) <= set(DIGITS[:base]):
            return Verdict(Outcome.UNPARSABLE, None, NO_NUMBER)
        return Verdict(Outcome.WRONG, answer, OTHER_ANSWER)

    def canaries(self) -> list[tuple[Problem, str, Outcome]]:
        canaries = []
        for problem in self.heldout("validation", len(self.subsets)):
            answer = problem.facts["answer"]
            value = int(answer, problem.facts["base"])
            canaries += [
                (problem, self.solutions(problem)[0].text, Outcome.CORRECT),
                (problem, rf"\boxed{{0}} or \boxed{{{answer.lower()}}}", Outcome.CORRECT),
                (problem, rf"\boxed{{{in_base(value + 1, problem.facts['base'])}}}", Outcome.WRONG),
                (problem, f"It is {answer}.", Outcome.UNPARSABLE),
                (problem, r"\boxed{G1}", Outcome.UNPARSABLE),
            ]
        return canaries

    @cached_property
    def _pairs(self) -> dict[tuple[str, int], list[Pair]]:
        """All pairs of two-digit numbers by split and base, the smaller number first."""
        pairs: dict[tuple[str, int], list[Pair]] = {
            (split, base): [] for split in SPLIT_BUCKETS for base in self.config.bases
        }
        for base in self.config.bases:
            for pair in combinations_with_replacement(range(base, base**2), 2):
                first, second = (in_base(number, base) for number in pair)
                if base != 10 and in_base(sum(pair), base) == decimal_sum(first, second):
                    continue
                bucket = _digest(base, pair)[0] % 16
                split = next(name for name, buckets in SPLIT_BUCKETS.items() if bucket in buckets)
                pairs[split, base].append(pair)
        return pairs


def _problem(base: int, pair: Pair, split: str) -> Problem:
    first, second = (in_base(number, base) for number in pair)
    if _digest(base, pair)[1] % 2:  # so that the first number is not always the smaller one
        first, second = second, first
    prompt = (
        f"In base {base} the digits are {DIGITS[:base]}. Calculating in base {base}, what is "
        f"{first} + {second}?\nWork it out step by step and give the sum, in base {base}, in "
        r"\boxed{}."
    )
    answer = in_base(sum(pair), base)
    facts = {"base": base, "first": first, "second": second, "answer": answer}
    return Problem(f"{base}-{first}-{second}", split, f"base {base}", prompt, facts)


def _digest(base: int, pair: Pair) -> bytes:
    return hashlib.blake2b(f"{base}/{pair}".encode(), digest_size=2).digest()


def _worth(digit: str) -> str:
    return digit if digit.isdecimal() else f"{digit} ({DIGITS.index(digit)})"
