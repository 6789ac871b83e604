"""The interface of graders, and the base class of most of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.graders.numbers import Unreadable

CORRECT, WRONG, UNPARSABLE = Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE
ANOTHER = "another answer"

Canary = tuple[str, str, Outcome]  # reference answer, response, outcome


class AnswerGrader(Protocol):
    """Compares responses with reference answers."""

    @property
    def name(self) -> str: ...

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """Cases with known outcomes, to check that the grader works on this machine."""
        ...

    def reference(self, answer: str) -> str:
        """Returns the canonical form of a reference answer. Raises ValueError if it has none."""
        ...

    def grade(self, answer: str, text: str) -> Verdict:
        """Returns the verdict on a response. `answer` is the reference, not yet canonical."""
        ...


class Reader(ABC):
    """Grades by extracting an answer from a response and comparing canonical forms."""

    name: str
    canaries: tuple[Canary, ...]

    def reference(self, answer: str) -> str:
        return self.read(answer)

    @abstractmethod
    def read(self, text: str) -> str:
        """Returns the canonical answer in a response. Raises Unreadable with the reason."""

    def grade(self, answer: str, text: str) -> Verdict:
        expected = self.reference(answer)
        try:
            actual = self.read(text)
        except Unreadable as reason:
            return Verdict(UNPARSABLE, None, str(reason))
        return Verdict(CORRECT, actual) if actual == expected else Verdict(WRONG, actual, ANOTHER)
