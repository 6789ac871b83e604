"""Equivalence of mathematical expressions, by math-verify."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from forkdiv.core.records import Verdict
from forkdiv.tasks.graders.base import ANOTHER, CORRECT, UNPARSABLE, WRONG
from forkdiv.tasks.graders.latex import value_or_text

MATH_SECONDS = 5


class Math:
    """Equivalence by math-verify. Works on the main thread only: its time limit uses a signal."""

    name = "math"
    canaries = (
        ("\\frac{1}{2}", "so \\boxed{0.5}", CORRECT),
        ("x^2+2x+1", "Hence $(x+1)^2$.", CORRECT),
        ("18", "\\boxed{19}", WRONG),
        ("18", "I do not know.", UNPARSABLE),
    )

    def __init__(self) -> None:
        # imported at first use: sympy takes seconds to load
        self._library: Any = importlib.import_module("math_verify")
        self._errors: Any = importlib.import_module("math_verify.errors")
        self._references = lru_cache(maxsize=1024)(self._reference)

    def reference(self, answer: str) -> str:
        return self._references(answer)[1]

    def grade(self, answer: str, text: str) -> Verdict:
        """Raises TimeoutError after the time limit, RuntimeError outside the main thread."""
        expected, canonical_form = self._references(answer)
        actual, written = self._parse(text)
        if actual is None:
            return Verdict(UNPARSABLE, None, "no mathematics")
        if self._verify(expected, actual):
            return Verdict(CORRECT, canonical_form)
        return Verdict(WRONG, written, ANOTHER)

    def _reference(self, answer: str) -> tuple[Any, str]:
        if re.fullmatch(r"\s*[A-Za-z]{3,}\s*", answer):
            raise ValueError("the reference is a word: math-verify would multiply its letters")
        marked = answer if "\\boxed" in answer or "$" in answer else f"\\boxed{{{answer}}}"
        parsed, written = self._parse(marked)
        if parsed is None or not self._verify(parsed, parsed):
            raise ValueError("math-verify finds no mathematics in the reference")
        return parsed, written

    def _parse(self, text: str) -> tuple[Any, str]:
        """Returns the expression in a text, or None, and its text."""
        parsed = self._run(self._library.parse, text, parsing_timeout=MATH_SECONDS)
        written = "".join(item for item in parsed[-1:] if isinstance(item, str))
        expressions = [item for item in parsed if not isinstance(item, str)]
        return (expressions[0] if expressions else None), value_or_text(written)

    def _verify(self, expected: Any, actual: Any) -> bool:
        return bool(self._run(self._library.verify, expected, actual, timeout_seconds=MATH_SECONDS))

    def _run(self, function: Callable[..., Any], *arguments: Any, **limits: int) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the grader `math` works only on the main thread of a process")
        try:
            # without `raise_on_error` a failure would return an empty list or False
            return function(*arguments, **limits, raise_on_error=True)
        except (
            self._errors.TimeoutException
        ) as error:  # a BaseException: no `except Exception` would see it
            raise TimeoutError(f"math-verify took more than {MATH_SECONDS} s") from error
