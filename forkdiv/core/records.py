"""The records that stages exchange: plain frozen data without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a task. `facts` holds everything a verifier needs, as plain JSON values."""

    id: str
    split: str
    subset: str
    prompt: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """One correct response to a problem. `mode` is its reasoning mode: forward or reverse, linear
    or backtracking, words or code."""

    text: str
    mode: str


@dataclass(frozen=True, slots=True)
class Fork:
    """A decision point of one response: a branch node at which it must choose.

    `at` is the offset, in characters of the response, of the first character that the choice
    decides. `branches` are the texts of the plausible next steps; `valid` are the branches that
    can still lead to a correct answer. `signed` is True if the prompt marks the valid branches
    locally.
    """

    at: int
    branches: tuple[str, ...]
    valid: tuple[str, ...]
    signed: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a fine-tuning dataset; the loss is computed on `response` only.

    Examples of one problem are consecutive. `forks` counts the response's decision points,
    `unsigned_forks` those without a sign; `facts` holds the problem's facts as JSON.
    """

    problem_id: str
    prompt: str
    response: str
    subset: str
    mode: str
    forks: int
    unsigned_forks: int
    facts: str


class Finish(StrEnum):
    """Why the sampler stopped: at the end token, or at the token limit."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled response and its seed. `stratum` is the rank of its forced first token and `tree`
    the index of its sample tree; both are None if the decoder does not use them."""

    problem_id: str
    sample_index: int
    seed: int
    text: str
    token_ids: tuple[int, ...]
    finish: str
    stratum: int | None = None
    tree: int | None = None


class Outcome(StrEnum):
    """The outcome of grading one response. `ERROR` means that grading failed: it invalidates the
    cell."""

    CORRECT = "correct"
    WRONG = "wrong"
    TRUNCATED = "truncated"
    UNPARSABLE = "unparsable"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one response. `answer` is the answer in canonical form, or None if it cannot
    be parsed; `detail` is the reason for a wrong or unparsable answer, from a small fixed set of
    texts; `mode` is the reasoning mode of the response."""

    outcome: Outcome
    answer: str | None = None
    detail: str = ""
    mode: str = ""
