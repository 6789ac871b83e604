"""What every grader offers, and the one way that most of them work."""

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
        """Cases whose outcome is known, to show that the grader works where it runs."""
        ...

    def reference(self, answer: str) -> str:
        """The canonical form of a reference answer. Raises ValueError if it has none."""
        ...

    def grade(self, answer: str, text: str) -> Verdict:
        """The verdict on a response. `answer` is the reference answer as it was given."""
        ...


class Reader(ABC):
    """Grades by reading an answer out of a response and comparing canonical forms."""

    name: str
    canaries: tuple[Canary, ...]

    def reference(self, answer: str) -> str:
        return self.read(answer)

    @abstractmethod
    def read(self, text: str) -> str:
        """The canonical answer in a response. Raises Unreadable with the reason for none."""

    def grade(self, answer: str, text: str) -> Verdict:
        expected = self.reference(answer)
        try:
            given = self.read(text)
        except Unreadable as reason:
            return Verdict(UNPARSABLE, None, str(reason))
        return Verdict(CORRECT, given) if given == expected else Verdict(WRONG, given, ANOTHER)
