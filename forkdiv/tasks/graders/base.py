"""The interface of graders, and the base class of most of them."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, Protocol

from forkdiv.core.fingerprint import file_digest, library_version
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

    def identity(self) -> dict[str, Any]:
        """Returns what decides the verdicts besides the grader's name: it is part of the identity
        of results. Empty for a grader that never changed."""
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
    # increased by hand when the grader is corrected and its old verdicts are no longer valid
    version: int = 1
    canaries: tuple[Canary, ...]

    def identity(self) -> dict[str, Any]:
        return own_identity(type(self), self.version)

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


def own_identity(kind: type, version: int, libraries: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the identity of a grader class: its version and libraries, and for a class of another
    package the source of its module."""
    identity: dict[str, Any] = {"version": version} if version > 1 else {}
    if libraries:
        identity["libraries"] = {name: library_version(name) for name in libraries}
    if not kind.__module__.startswith("forkdiv."):
        identity["source"] = file_digest(sys.modules[kind.__module__].__file__)
    return identity
