"""Compares the whole response, with white space normalised to single spaces."""

from __future__ import annotations

from forkdiv.tasks.graders.base import CORRECT, UNPARSABLE, WRONG, Reader
from forkdiv.tasks.graders.numbers import Unreadable


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
