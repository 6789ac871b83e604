"""What a benchmark states: where its data is, its columns, grader, prompts and examples.

A benchmark is an instance of a subclass of `Benchmark` that is registered with
`forkdiv.benchmarks.registry.register`. It turns the rows of its published file into problems; all
else (reading files, checking rows, splits, shots) is that of a user's own file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from forkdiv.core.errors import shortened
from forkdiv.core.hub_names import DatasetName
from forkdiv.core.json_types import type_name
from forkdiv.tasks.own_data.columns import Unusable, number_text

Wording = Literal["text", "chat"]
TEST, SHOTS, TRAIN = "test", "shots", "train"  # parts of a file that has all splits


@dataclass(frozen=True)
class Item:
    """A problem of a benchmark. `completion` is its published solution, None without one; `answer`
    is the reference that the grader reads."""

    prompt: str
    answer: str
    completion: str | None = None
    id: str | None = None


class Benchmark(ABC):
    """A benchmark; see the module docstring. `version` is increased by hand when prompts, answers
    or rows change, so that older results are not reused."""

    name: ClassVar[str]
    about: ClassVar[str]
    version: ClassVar[int] = 1
    # the measured split, and the split that shots are drawn from (None: there is none), on the hub
    source: ClassVar[DatasetName | None] = None
    shots: ClassVar[DatasetName | None] = None
    # the numbers of problems of its published versions; empty: any number
    rows: ClassVar[tuple[int, ...]] = ()
    # role -> the names of its column, in any case, the usual one first
    columns: ClassVar[Mapping[str, tuple[str, ...]]]
    optional: ClassVar[frozenset[str]] = frozenset()  # roles that a file may lack
    grader: ClassVar[str]
    # texts that end the response of a model that was asked by `text` wording
    stop: ClassVar[tuple[str, ...]] = ()
    # the largest length of a response unless decoder.max_new_tokens is set
    max_new_tokens: ClassVar[int] = 512
    licence: ClassVar[str]
    link: ClassVar[str]

    @abstractmethod
    def item(self, fields: Mapping[str, Any], wording: Wording) -> Item:
        """Returns the problem of a row, whose values are given by role; a column that the file
        lacks is not in `fields`. `wording` is `chat` for models that follow instructions, else
        `text`.

        Raises `Unusable` with the reason for a row that has another form.
        """

    def part(self, fields: Mapping[str, Any]) -> str | None:
        """Returns the split of a row, `test`, `shots` or another, for a benchmark whose published
        file has all splits. None: rows do not say it, a file is one split."""
        return None


def roles(**names: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Returns the names of the columns of each role, as `Benchmark.columns` has them."""
    return MappingProxyType(names)


def text_field(fields: Mapping[str, Any], role: str) -> str:
    """Returns the text of a role. Raises Unusable if it is not text, or blank."""
    value = fields[role]
    if not isinstance(value, str):
        raise Unusable(f"the {role} is {type_name(value)}, not text")
    if not value.strip():
        raise Unusable(f"empty {role}")
    return value


def label_field(fields: Mapping[str, Any], role: str) -> str:
    """Returns text, or a number as text. Raises Unusable for other values."""
    value = fields[role]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return number_text(value, role)
    return text_field(fields, role).strip()


def list_field(fields: Mapping[str, Any], role: str) -> Sequence[str]:
    """Returns a list of texts. Raises Unusable for other values."""
    value = fields[role]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise Unusable(f"the {role} is {type_name(value)}, not a list of texts")
    return value


def unexpected(role: str, value: str, expected: str) -> Unusable:
    """Returns the error for a value of another form than the published one."""
    return Unusable(f"the {role} is {shortened(value, 60)!r}, not {expected}")
