"""What every task offers: problems by split, their correct traces, and a verifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Protocol

from forkdiv.records import Example, Problem, Trace, Verdict

SPLITS = ("pretrain", "train", "validation", "test")


class Task(Protocol):
    """A source of problems with exact solutions and exact verdicts.

    A problem belongs to exactly one split by its content, never by its position, so that
    no sizes, seeds or knobs can put one problem into two splits.
    """

    @property
    def subsets(self) -> Sequence[str]:
        """The parts of the held-out problems that results are given for."""
        ...

    def vocabulary(self) -> list[str]:
        """Every token text of prompts and responses, for a word-level tokenizer."""
        ...

    def distinct(self, split: str) -> int:
        """About how many different problems the split has."""
        ...

    def heldout(self, split: str, count: int) -> list[Problem]:
        """`count` problems, the same for every dataset setting, `subsets` in equal parts."""
        ...

    def sft_examples(
        self, count: int, fork_density: float, direction: float, seed: int
    ) -> Iterator[Example]:
        """`count` fine-tuning examples of which `fork_density` have an unsigned fork."""
        ...

    def walk_examples(self, count: int, walks: int, separator: str, seed: int) -> Iterator[Example]:
        """Examples for a base model: random walks that heed neither sign nor target."""
        ...

    def solutions(self, problem: Problem) -> list[Trace]:
        """Every correct response there is."""
        ...

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Exact verdict for the text of a finished response."""
        ...

    def longest_response(self) -> int:
        """Tokens of the longest correct response, its end token included."""
        ...


def derive(*parts: object) -> Random:
    """A random stream of its own for the named parts; `Random` seeds strings by SHA-512."""
    return Random("/".join(map(str, parts)))
