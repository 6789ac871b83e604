"""Writes and reads SFT datasets: a Parquet file and its card, byte-identical for equal configs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.errors import refuse
from forkdiv.core.files import read_small_text, require_regular
from forkdiv.core.fingerprint import Identity, canonical
from forkdiv.core.records import Example
from forkdiv.core.store import Artifact, Store
from forkdiv.tasks.base import Task

EXAMPLES, CARD = "examples.parquet", "card.json"
ROWS_AT_ONCE = 4096
MAX_CARD_BYTES = 2**26
REMEDY = "create the dataset again"
COUNTS = ("forks", "unsigned_forks")
SCHEMA = pa.schema(
    [(field.name, pa.int32() if field.name in COUNTS else pa.string()) for field in fields(Example)]
)


def sft_identity(task: Task, config: DatasetConfig) -> Identity:
    """Returns the identity of an SFT dataset. Only settings that the task reads are part of it."""
    knobs = {knob: getattr(config, knob) for knob in task.knobs - {"synthesis"}}
    own = {"examples": task.examples(config), "seed": config.seed}
    grading = {"grading": task.grading()} if task.grading_selects_rows else {}
    return Identity("dataset", {"task": _without_seed(task), "sft": knobs | own, **grading})


def walks_identity(task: Task, config: PretrainConfig, separator: str) -> Identity:
    names = ("examples", "walks", "direction", "seed")
    knobs = {name: getattr(config, name) for name in names}
    return Identity(
        "dataset", {"task": _without_seed(task), "walks": knobs | {"separator": separator}}
    )


def _without_seed(task: Task) -> dict[str, Any]:
    """Returns the task's identity without its seed, which affects held-out problems only."""
    identity: dict[str, Any] = canonical(task.identity())
    del identity["seed"]
    return identity


def obtain_sft(
    store: Store,
    task: Task,
    config: DatasetConfig,
    on_wait: Callable[[str], None] = lambda message: None,
) -> Artifact:
    """Returns the SFT dataset of these settings, before synthesis; builds it if it does not
    exist."""
    identity = sft_identity(task, config)

    def make(folder: Path) -> None:
        write(folder, task.sft_examples(config), identity, task)

    return store.obtain(identity, make, on_wait)


def obtain_walks(store: Store, task: Task, config: PretrainConfig, separator: str) -> Artifact:
    """Returns the training data of a base model; `separator` is the model's end token."""
    identity = walks_identity(task, config, separator)

    def make(folder: Path) -> None:
        write(folder, task.walk_examples(config, separator), identity, task, separator)

    return store.obtain(identity, make)


def write(
    folder: Path,
    examples: Iterable[Example],
    identity: Identity,
    task: Task,
    separator: str = " ",
    more: Mapping[str, Any] | None = None,
) -> None:
    """Streams `examples` into `folder` as Parquet, with a card of counts.

    `separator` separates several walks within one response. Memory use is constant: the examples
    of a problem are consecutive, so problems are counted where the id changes.
    """
    counts = _CardCounts(separator)
    rows = iter(examples)
    with pq.ParquetWriter(folder / EXAMPLES, SCHEMA, compression="zstd") as writer:
        while part := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist([asdict(row) for row in part], SCHEMA))
            for row in part:
                counts.add(row)
    card = {
        "fingerprint": identity.fingerprint,
        "task": _without_seed(task),
        "knobs": canonical(identity.config),
        **counts.as_json(),
        **(more or {}),
        "notes": list(task.notes),
        "licence": task.licence,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1))


class _CardCounts:
    """The counts of a dataset card, updated row by row."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._kinds: Counter[str] = Counter()
        self._problem: str | None = None
        self._problems = self._words = self._forks = self._unsigned = 0

    def add(self, row: Example) -> None:
        mode = row.mode or "unknown"
        self._kinds[f"{row.subset}/{mode}"] += 1
        self._forks += row.forks
        self._unsigned += row.unsigned_forks
        self._words += len(row.response.replace(self._separator, " ").split())
        if row.problem_id != self._problem:
            self._problem = row.problem_id
            self._problems += 1

    def as_json(self) -> dict[str, Any]:
        modes: Counter[str] = Counter()
        for kind, count in self._kinds.items():
            modes[kind.rpartition("/")[2]] += count
        total = sum(self._kinds.values())
        return {
            "examples": total,
            "distinct_problems": self._problems,
            "examples_per_problem": round(total / max(self._problems, 1), 3),
            "by_subset_and_mode": dict(sorted(self._kinds.items())),
            "mode_shares": {
                mode: round(count / max(total, 1), 6) for mode, count in sorted(modes.items())
            },
            "forks": self._forks,
            "unsigned_forks": self._unsigned,
            "fork_density": round(self._unsigned / self._forks, 6) if self._forks else None,
            "response_words": self._words,
            "forks_per_100_response_words": round(100 * self._forks / max(self._words, 1), 3),
        }


def read(folder: Path) -> list[Example]:
    """Returns all examples of a dataset folder, in order."""
    return list(stream(folder))


def stream(folder: Path) -> Iterator[Example]:
    """Yields the examples of a dataset folder, in order, with constant memory.

    Raises UserError if the file is damaged, or has other columns than forkdiv writes.
    """
    path = folder / EXAMPLES
    require_regular(path, "the examples of a dataset cannot be read", REMEDY)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                if any(column.null_count for column in batch.columns):
                    raise ValueError("a value is missing")
                for row in batch.cast(SCHEMA).to_pylist():
                    yield Example(**row)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise refuse(
            "the examples of a dataset cannot be read",
            f"{path} ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            "the Parquet file that forkdiv wrote",
            REMEDY,
        ) from error


def read_card(folder: Path) -> dict[str, Any]:
    """Returns the card of a dataset folder. Raises UserError for a file that is no text or too
    large, and what `json` raises for other text."""
    text = read_small_text(folder / CARD, "the card of a dataset", MAX_CARD_BYTES, REMEDY)
    card: dict[str, Any] = json.loads(text)
    return card
