"""The nouns that cross stages. Plain frozen data: no behaviour beyond (de)serialising."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a task. `facts` is all a verifier needs, as plain JSON values."""

    id: str
    split: str
    subset: str
    prompt: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """One correct response to a problem, and whether it meets the fork."""

    text: str
    direction: str
    forks: int


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a fine-tuning dataset: the loss falls on `response` only."""

    problem_id: str
    prompt: str
    response: str
    subset: str
    direction: str
    forks: int


class Finish(StrEnum):
    """Why the sampler stopped: at the end token, or at the token limit."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled response with the seed that made it."""

    problem_id: str
    sample_index: int
    seed: int
    text: str
    token_ids: tuple[int, ...]
    finish: str


class Outcome(StrEnum):
    """What a verdict may say. Only `ERROR` is no answer: it makes a cell invalid."""

    CORRECT = "correct"
    WRONG = "wrong"
    TRUNCATED = "truncated"
    UNPARSABLE = "unparsable"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one response. `answer` is its canonical form where it parses."""

    outcome: Outcome
    answer: str | None = None
    detail: str = ""
