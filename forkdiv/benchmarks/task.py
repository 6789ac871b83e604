"""The task of a public benchmark: a file in its published form."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from forkdiv.benchmarks.base import SHOTS, TEST, TRAIN, Benchmark
from forkdiv.benchmarks.config import BenchmarkConfig
from forkdiv.benchmarks.reading import is_part, read_benchmark
from forkdiv.core.fingerprint import file_digest
from forkdiv.tasks.base import no_shots
from forkdiv.tasks.own_data.checked import RowsRead
from forkdiv.tasks.own_data.columns import Row
from forkdiv.tasks.own_data.task import OwnData, Role


class BenchmarkTask(OwnData):
    """Problems of `task.test`, asked and graded as the benchmark says; `task.train` is a file of
    its training split. Everything else is as for a user's own file."""

    config_class = BenchmarkConfig
    config: BenchmarkConfig

    def __init__(self, config: BenchmarkConfig) -> None:
        self.benchmark = config.found  # raises for an empty name
        super().__init__(config)
        self.licence = self.benchmark.licence

    def identity(self) -> dict[str, Any]:
        """That of the file, with the benchmark's version, or the source of one of your own."""
        own = ":" in self.config.benchmark
        file = sys.modules[type(self.benchmark).__module__].__file__
        source = {"source": file_digest(file)} if own else {}
        wording = {"wording": self.config.wording or "text"}
        return super().identity() | wording | {"version": self.benchmark.version, **source}

    @cached_property
    def notes(self) -> Sequence[str]:  # type: ignore[override]
        """Those of the file, and whether it is a part of the benchmark."""
        return (*super().notes, *self._part_of_benchmark)

    @cached_property
    def warnings(self) -> Sequence[str]:  # type: ignore[override]
        return (*super().warnings, *self._part_of_benchmark)

    def shot_pool(self) -> Iterator[tuple[str, str]]:
        """The training file's solutions, or the examples that the benchmark's file has for it."""
        if self.config.train is not None:
            yield from super().shot_pool()
            return
        rows = self._examples_in_test_file()
        if not rows:
            source = self.benchmark.shots
            where = f", which is {source}" if source else ""
            split = f"its training split{where}" if source else "a training split, as it has none"
            raise no_shots(f"{self.benchmark.name} without {split}")
        yield from ((row.prompt, row.completion) for row in rows if row.completion is not None)

    def _examples_in_test_file(self) -> Sequence[Row]:
        """The rows that a file with all splits has for shots."""
        has_splits = type(self.benchmark).part is not Benchmark.part
        if self.config.test is None or not has_splits:
            return ()
        return self._of_parts(self.config.test, (SHOTS,)).rows

    @cached_property
    def _part_of_benchmark(self) -> Sequence[str]:
        test = self.files.get("test")
        return [text] if test and (text := is_part(self.benchmark, test)) else []

    def _rows(self, path: Path, role: Role) -> RowsRead:
        return self._of_parts(path, (TEST,) if role == "test" else (SHOTS, TRAIN))

    def _of_parts(self, path: Path, parts: Sequence[str]) -> RowsRead:
        wording = self.config.wording or "text"
        return read_benchmark(path, self.config.format, self.benchmark, wording, parts)
