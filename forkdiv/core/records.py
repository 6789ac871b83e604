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
    """One correct response to a problem. `mode` is how it is told: forward or reverse, linear or
    backtracking, words or code."""

    text: str
    mode: str


@dataclass(frozen=True, slots=True)
class Fork:
    """A decision point of one response: a branch node at which it must choose.

    `at` is the offset, in characters of the response, of the first character that the choice
    decides. `branches` are the texts of the plausible next steps, `valid` those of them that
    can still end in a correct answer. `signed` says whether something local in the prompt
    tells them apart.
    """

    at: int
    branches: tuple[str, ...]
    valid: tuple[str, ...]
    signed: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a fine-tuning dataset: the loss falls on `response` only.

    Examples of one problem follow one another. `forks` counts the response's decision points,
    `unsigned_forks` those without a sign; `facts` is the problem's, as JSON.
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
    """One sampled response with the seed that made it. `stratum` is the rank of the first token
    that it was forced through, `tree` the tree that it was drawn in, where there are any."""

    problem_id: str
    sample_index: int
    seed: int
    text: str
    token_ids: tuple[int, ...]
    finish: str
    stratum: int | None = None
    tree: int | None = None


class Outcome(StrEnum):
    """What a verdict may say. Only `ERROR` is no answer: it makes a cell invalid."""

    CORRECT = "correct"
    WRONG = "wrong"
    TRUNCATED = "truncated"
    UNPARSABLE = "unparsable"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one response. `answer` is its canonical form where it parses; `detail`
    says why it is wrong or unreadable, in one of a few fixed texts; `mode` how it is told."""

    outcome: Outcome
    answer: str | None = None
    detail: str = ""
    mode: str = ""
