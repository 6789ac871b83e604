"""Graders: is the answer in a model's response the reference answer?

| name | answer read from the response | equal if |
|---|---|---|
| `exact` | all of it, runs of white space as one space | the same text |
| `numeric` | its last number | the same value |
| `boxed` | the last `\\boxed{}` or `\\fbox{}` | the same value, else the same text |
| `hash` | the number on the line of the last `####` | the same value |
| `choice` | the letter A to J that it settles on | the same letter |
| `math` | what math-verify finds | mathematically equivalent |
| `package.module:function` | what the function reads | the function says so |

Case always counts. Values are compared exactly, never as floats. `numeric` takes the last
number since responses end with their answer; one that goes on counting is read wrongly. A
grader that fails raises: it gives no verdict on what it could not judge.
"""

from __future__ import annotations

import importlib
import inspect
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from forkdiv.core.errors import refuse
from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.graders import numbers
from forkdiv.tasks.graders.latex import has_box, last_box, value_or_text
from forkdiv.tasks.graders.multiple_choice import read_choice
from forkdiv.tasks.graders.numbers import Unreadable

CORRECT, WRONG, UNPARSABLE = Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE
ANOTHER = "another answer"
MATH_SECONDS = 5

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


def build_grader(name: str) -> AnswerGrader:
    """The grader of that name. Raises UserError where there is none."""
    if ":" in name:
        return Function(name)
    if name in GRADERS:
        return GRADERS[name]()
    allowed = f"{', '.join(GRADERS)} or package.module:function"
    raise refuse("there is no such grader", repr(name), allowed, "correct the grader's name")


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


class Exact(Reader):
    name = "exact"
    canaries = (
        ("New York", " New\n York ", CORRECT),
        ("7A", "7a", WRONG),
        ("7A", "It is 7A", WRONG),
        ("7A", " \n", UNPARSABLE),
    )

    def read(self, text: str) -> str:
        if not text.strip():
            raise Unreadable("empty")
        return " ".join(text.split())


class Numeric(Reader):
    name = "numeric"
    canaries = (
        ("18", "She makes 9 * 2 = $18.00.", CORRECT),
        ("1,234", "that is 1234", CORRECT),
        ("-3", "It is \u22123 degrees", CORRECT),
        ("18", "first 18, then 19", WRONG),
        ("1000000000000000000001", "1000000000000000000000", WRONG),
        ("18", "eighteen", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        """Takes a whole solution as well, by the mark `####`."""
        number = numbers.whole(answer.rpartition("####")[2])
        return numbers.canonical(number, "a reference that is not a number")

    def read(self, text: str) -> str:
        return numbers.canonical(numbers.last(text), "no number")


class Hash(Reader):
    name = "hash"
    canaries = (
        ("18", "16 - 7 = 9\n#### 18", CORRECT),
        ("1200", "#### $1,200.00\nNext question: 7", CORRECT),
        ("2 + 2 = 4\n#### 4", "#### 3\nno:\n#### 4", CORRECT),
        ("18", "The 18 of\n#### 19", WRONG),
        ("18", "The answer is 18", UNPARSABLE),
        ("18", "#### 18 or 19", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        """Takes a whole solution as well, by its mark."""
        number = numbers.whole(answer.rpartition("####")[2])
        return numbers.canonical(number, "a reference that is not a number")

    def read(self, text: str) -> str:
        _, mark, rest = text.rpartition("####")
        if not mark:
            raise Unreadable("no ####")
        values = set(numbers.every(rest.strip().partition("\n")[0]))
        if len(values) > 1:
            raise Unreadable("several numbers after ####")
        return numbers.canonical(next(iter(values), None), "no number after ####")


class Boxed(Reader):
    name = "boxed"
    canaries = (
        ("143", "so \\boxed{143}", CORRECT),
        ("0.5", "\\boxed{\\dfrac{1}{2}}", CORRECT),
        ("7A", "\\boxed{1} no, \\boxed{\\text{7A}}.", CORRECT),
        ("\\frac{x}{2}", "$\\fbox{$ \\tfrac{x}{2} $}$", CORRECT),
        ("7A", "\\boxed{7}", WRONG),
        ("1E2", "\\boxed{100}", WRONG),
        ("12", "\\boxed{1 2}", WRONG),
        ("143", "The answer is 143", UNPARSABLE),
        ("143", "so \\boxed{14", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        """Takes a whole solution as well, by its box."""
        return self._content(last_box(answer) if has_box(answer) else answer)

    def read(self, text: str) -> str:
        return self._content(last_box(text))

    def _content(self, text: str) -> str:
        if not (content := value_or_text(text)):
            raise Unreadable("an empty \\boxed{}")
        return content


class Choice(Reader):
    name = "choice"
    canaries = (
        ("B", "The answer is (B).", CORRECT),
        ("(B)", "**Answer:** B) Paris", CORRECT),
        ("B", "A is wrong, C is wrong.\n\n**B**", CORRECT),
        ("D", "so \\boxed{\\text{(D)}}", CORRECT),
        ("B", "The answer is C", WRONG),
        ("B", "The answer is B or C.", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        match = re.fullmatch(r"\(?([A-J])\)?\.?", answer.strip())
        if match is None:
            raise Unreadable("a reference that is not a letter from A to J")
        return match[1]

    def read(self, text: str) -> str:
        return read_choice(text)


class Math:
    """Equivalence by math-verify. Only on the main thread: its time limit is a signal."""

    name = "math"
    canaries = (
        ("\\frac{1}{2}", "so \\boxed{0.5}", CORRECT),
        ("x^2+2x+1", "Hence $(x+1)^2$.", CORRECT),
        ("18", "\\boxed{19}", WRONG),
        ("18", "I do not know.", UNPARSABLE),
    )

    def __init__(self) -> None:
        # by name, and only here: sympy takes seconds to load
        self._library: Any = importlib.import_module("math_verify")
        self._errors: Any = importlib.import_module("math_verify.errors")
        self._references = lru_cache(maxsize=1024)(self._reference)

    def reference(self, answer: str) -> str:
        return self._references(answer)[1]

    def grade(self, answer: str, text: str) -> Verdict:
        """Raises TimeoutError for what takes too long, RuntimeError off the main thread."""
        expected, canonical_form = self._references(answer)
        given, written = self._parse(text)
        if given is None:
            return Verdict(UNPARSABLE, None, "no mathematics")
        if self._verify(expected, given):
            return Verdict(CORRECT, canonical_form)
        return Verdict(WRONG, written, ANOTHER)

    def _reference(self, answer: str) -> tuple[Any, str]:
        if re.fullmatch(r"\s*[A-Za-z]{3,}\s*", answer):
            raise ValueError("a reference that is a word: math-verify would multiply its letters")
        marked = answer if "\\boxed" in answer or "$" in answer else f"\\boxed{{{answer}}}"
        parsed, written = self._parse(marked)
        if parsed is None or not self._verify(parsed, parsed):
            raise ValueError("a reference in which math-verify finds no mathematics")
        return parsed, written

    def _parse(self, text: str) -> tuple[Any, str]:
        """The expression in a text (None for none), and how it is written."""
        found = self._run(self._library.parse, text, parsing_timeout=MATH_SECONDS)
        written = "".join(one for one in found[-1:] if isinstance(one, str))
        expressions = [one for one in found if not isinstance(one, str)]
        return (expressions[0] if expressions else None), value_or_text(written)

    def _verify(self, expected: Any, given: Any) -> bool:
        return bool(self._run(self._library.verify, expected, given, timeout_seconds=MATH_SECONDS))

    def _run(self, function: Callable[..., Any], *arguments: Any, **limits: int) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the grader `math` works only on a process's main thread")
        try:
            # without `raise_on_error` a failure would be an empty list, or False
            return function(*arguments, **limits, raise_on_error=True)
        except (
            self._errors.TimeoutException
        ) as error:  # a BaseException: no `except Exception` would see it
            raise TimeoutError(f"math-verify took more than {MATH_SECONDS} s") from error


class Function:
    """A user's `f(answer, text) -> bool | Verdict`, named by `package.module:function`.

    The module may offer `canaries` of its own. Raises UserError where the name leads to none.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        module, _, attribute = name.partition(":")
        allowed = "package.module:function with two parameters (reference answer, response)"
        try:
            found = importlib.import_module(module)
            self._function: Callable[[str, str], object] = getattr(found, attribute)
            inspect.signature(self._function).bind("", "")
            self.canaries: tuple[Canary, ...] = tuple(
                (answer, text, Outcome(outcome))
                for answer, text, outcome in getattr(found, "canaries", ())
            )
        except (ImportError, SyntaxError, AttributeError, ValueError, TypeError) as error:
            remedy = f"correct the grader's name or the function ({error})"
            raise refuse("this grader cannot be used", repr(name), allowed, remedy) from error

    def reference(self, answer: str) -> str:
        return answer

    def grade(self, answer: str, text: str) -> Verdict:
        """Raises TypeError for what is neither a bool nor a Verdict."""
        said = self._function(answer, text)
        if isinstance(said, Verdict):
            return said
        if not isinstance(said, bool):
            raise TypeError(f"{self.name} gave {said!r}, which is neither a bool nor a Verdict")
        return Verdict(CORRECT, answer) if said else Verdict(WRONG, None, ANOTHER)


GRADERS: dict[str, Callable[[], AnswerGrader]] = {
    grader.name: grader for grader in (Exact, Numeric, Boxed, Hash, Choice, Math)
}
