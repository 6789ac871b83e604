"""Your own data: prompts with completions to learn from and answers to be graded by.

A row of JSONL such as

    {"question": "What is 2 + 3?", "solution": "2 + 3 = 5\\n#### 5", "answer": "5"}

is a problem named by a hash of its prompt, with a solution, and under the grader `hash` every
response that ends in `#### 5` is correct. Rows with equal prompts are solutions of one problem.
Where no column holds answers, the reference is the answer that the grader finds in a solution:
`exact` (all of it), `hash`, `boxed` and `math` do so; the others need a column of answers.

All rows are read and judged before the first is used. A row whose answer the grader cannot
read, whose completion the grader does not accept, or whose prompt is in both files is a bad
row like one with a missing column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import refuse
from forkdiv.core.records import Example, Outcome, Problem, Trace, Verdict
from forkdiv.tasks.base import SPLITS, Task, derive, example, no_grader, too_few
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.checked import RowsRead, digest, leave_out, read_rows, require_good
from forkdiv.tasks.own_data.columns import Row, prompt_id
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig
from forkdiv.tasks.own_data.judged import judge

WHOLE = "problems"  # the subset of data that names none

# A problem's split is read off its prompt's hash, in tenths. A test file leaves the last one
# to training; the validation tenth is the same either way.
VALIDATION, TEST = 8, 9


@dataclass(frozen=True)
class _Data:
    """Both files, judged, and the rows of each split by prompt."""

    train: RowsRead | None
    test: RowsRead | None
    splits: Mapping[str, Mapping[str, Sequence[Row]]]


UNGRADED = "none"


class OwnData(Task):
    """The task; see the module's head for a problem. Rows are read when first needed, and held
    in memory: to grade a response needs none of them."""

    config_class = FileConfig
    config: FileConfig

    knobs = frozenset({"synthesis"})
    licence = "as its source"

    def __init__(self, config: FileConfig) -> None:
        super().__init__(config)
        if config.train is None and config.test is None:
            raise refuse(
                "a task of kind file names no file",
                "neither task.train nor task.test",
                "task.train, task.test or both",
                "set one",
            )
        self.graded = config.grader != UNGRADED
        # without a grader only what needs no verdict can be done: to audit, to fine-tune
        self._grader = build_grader(config.grader if self.graded else "exact")
        self.votes = ":" not in config.grader  # a function of the user's may only say yes or no

    @cached_property
    def subsets(self) -> Sequence[str]:  # type: ignore[override]
        """Of the held-out problems, in order of appearance; in whatever shares they come."""
        heldout = (self._data.splits[split].values() for split in ("validation", "test"))
        return tuple(dict.fromkeys(_subset(rows) for split in heldout for rows in split))

    @cached_property
    def sizes(self) -> Mapping[str, int]:  # type: ignore[override]
        """Rows to learn from in `train`, problems in the other splits."""
        return {split: self.available(split) for split in SPLITS} | {"train": len(self._lessons)}

    def identity(self) -> dict[str, Any]:
        """With the files' content in place of their paths."""
        return self.config.model_dump(exclude={"train", "test"}) | {"content": self.digest}

    @cached_property
    def digest(self) -> str:
        """The files' content: equal data is the same data under any name and in any place."""
        whole = hashlib.sha256()
        for role, path in (("train", self.config.train), ("test", self.config.test)):
            whole.update(f"{role}:{digest(path) if path else None}\n".encode())
        return whole.hexdigest()

    @cached_property
    def notes(self) -> Sequence[str]:  # type: ignore[override]
        """What was read from where, and all that was left out."""
        data = self._data
        found = [read for read in (data.train, data.test) if read]
        notes = [f"{read.file}: {_columns(read.columns)}" for read in found]
        notes += [read.skipped for read in found if read.skipped]
        if data.train:
            shares = "a tenth is" if data.test else "a tenth each is"
            splits = "validation" if data.test else "validation and test"
            notes.append(f"of the problems in {data.train.file} {shares} {splits}, by their prompt")
        rows = sum(map(len, data.splits["train"].values()))
        if missing := rows - len(self._lessons):
            notes.append(f"{missing:,} rows of the train split have no completion to learn from")
        return tuple(notes)

    def available(self, split: str) -> int:
        return len(self._data.splits[split])

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        """All problems of the split or the first `count`, in an order drawn with the seed."""
        rows = list(self._data.splits[split].values())
        if not rows:
            raise refuse(
                f"the data has no problem in the {split} split",
                f"task.train={self.config.train}, task.test={self.config.test}",
                "a file with more problems, or one for each of train and test",
                f"name one, or another split than {split}",
            )
        if not self.graded:
            raise no_grader("measure a model")
        wanted = len(rows) if count is None else count
        if wanted > len(rows):
            raise too_few(split, wanted, len(rows))
        derive("heldout", split, self.config.seed).shuffle(rows)
        return [self._problem(some, split) for some in rows[:wanted]]

    def sft_examples(self, config: DatasetConfig) -> Iterator[Example]:
        """The train split's completions, problem by problem in an order drawn with the seed."""
        wanted = self.examples(config)
        if not self._lessons:
            raise refuse(
                "the data has no completion to learn from",
                f"task.train={self.config.train}",
                "a train file with a column of completions",
                "name it in task.train and task.columns.completion",
            )
        if wanted > len(self._lessons):
            raise refuse(
                "the data has fewer examples than asked",
                f"dataset.examples={wanted}",
                f"up to {len(self._lessons)}",
                "lower it, or leave it out for all of them",
            )
        return self._shuffled(wanted, config.seed)

    def training_examples(self) -> Iterator[Example]:
        """Every completion of the train file, whatever split a study would put its problem in,
        those of one problem one after the other."""
        by_prompt: dict[str, list[Row]] = {}
        for row in self._data.train.rows if self._data.train else ():
            if row.completion is not None:
                by_prompt.setdefault(row.prompt, []).append(row)
        for rows in by_prompt.values():
            problem = self._problem(rows, "train")
            yield from (example(problem, Trace(str(row.completion), ""), ()) for row in rows)

    def solutions(self, problem: Problem) -> list[Trace]:
        """The files' own completions for the problem's prompt."""
        known = (split.get(problem.prompt, ()) for split in self._data.splits.values())
        return [Trace(row.completion, "") for rows in known for row in rows if row.completion]

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self._grader.grade(problem.facts["answer"], text)

    def canaries(self) -> list[tuple[Problem, str, Outcome]]:
        return [
            (Problem(f"canary-{n}", "test", "", "", {"answer": answer}), text, outcome)
            for n, (answer, text, outcome) in enumerate(self._grader.canaries)
        ]

    @cached_property
    def _data(self) -> _Data:
        """Raises UserError for what `FileConfig.on_bad_row` does not allow."""
        test = self._read(self.config.test, "completion") if self.config.test else None
        train = self._read(self.config.train, "answer") if self.config.train else None
        if test and train:
            train = leave_out(train, _in_both(train, test))
        require_good([read for read in (train, test) if read], self.config.on_bad_row)
        splits: dict[str, dict[str, list[Row]]] = {split: {} for split in SPLITS}
        for row in train.rows if train else ():
            split = _split(row.prompt, has_test=test is not None)
            splits[split].setdefault(row.prompt, []).append(row)
        for row in test.rows if test else ():
            splits["test"].setdefault(row.prompt, []).append(row)
        return _Data(train, test, splits)

    def _read(self, path: Path, optional: str) -> RowsRead:
        """The file's rows, judged. With two files, each may lack what only the other needs."""
        both = self.config.train and self.config.test
        optionals = frozenset({optional, "subset"} if both else ())
        read = read_rows(path, self.config.format, self.config.columns, optionals)
        if self.graded:
            return judge(read, self._grader)
        return replace(read, rows=tuple(replace(row, answer="") for row in read.rows))

    @cached_property
    def _lessons(self) -> Sequence[Row]:
        """What there is to learn from."""
        rows = (row for rows in self._data.splits["train"].values() for row in rows)
        return [row for row in rows if row.completion is not None]

    def _shuffled(self, count: int, seed: int) -> Iterator[Example]:
        prompts = list(dict.fromkeys(row.prompt for row in self._lessons))
        derive("examples", seed).shuffle(prompts)
        left = count
        for prompt in prompts:
            rows = self._data.splits["train"][prompt]
            problem = self._problem(rows, "train")
            texts = [row.completion for row in rows if row.completion is not None][:left]
            yield from (example(problem, Trace(text, ""), ()) for text in texts)
            left -= len(texts)
            if not left:
                return

    def _problem(self, rows: Sequence[Row], split: str) -> Problem:
        first = rows[0]
        assert first.answer is not None  # once judged
        facts = {"answer": first.answer}
        if first.id != (id := prompt_id(first.prompt)):
            facts["id"] = first.id
        return Problem(id, split, _subset(rows), first.prompt, facts)


def _subset(rows: Sequence[Row]) -> str:
    return rows[0].subset or WHOLE


def _split(prompt: str, has_test: bool) -> str:
    tenth = int(prompt_id(prompt), 16) % 10
    if tenth == TEST and not has_test:
        return "test"
    return "validation" if tenth == VALIDATION else "train"


def _in_both(train: RowsRead, test: RowsRead) -> dict[int, str]:
    """Rows to learn from whose prompts are held out."""
    held = {row.prompt: row.line for row in reversed(test.rows)}
    where = f"of task.test, {test.file}"
    return {
        row.line: f"is held out: its prompt is that of {test.unit} {held[row.prompt]} {where}"
        for row in train.rows
        if row.prompt in held
    }


def _columns(columns: ColumnsConfig) -> str:
    named = {role: name for role, name in columns.model_dump().items() if name is not None}
    return "columns " + ", ".join(f"{name!r} as {role}" for role, name in named.items())
