"""Your own data: prompts with completions to train on and answers to grade by.

A row of JSONL such as

    {"question": "What is 2 + 3?", "solution": "2 + 3 = 5\\n#### 5", "answer": "5"}

is a problem, identified by a hash of its prompt, with a solution. With the grader `hash` every
response that ends in `#### 5` is correct. Rows with equal prompts are solutions of one problem.
Without a column of answers, the reference is the answer that the grader extracts from a solution;
`exact` (all of it), `hash`, `boxed` and `math` can do so, the others need a column of answers.

All rows are read and checked before the first is used. A row is bad if a column is missing, if the
grader cannot read its answer or rejects its completion, or if its prompt is in both files. In
`test`, nothing is trained on: a row with an answer is used even if the grader rejects its
completion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.records import Example, Outcome, Problem, Trace, Verdict
from forkdiv.core.thinking import tags_in
from forkdiv.tasks.base import SPLITS, Task, derive, example, no_grader, no_shots, too_few
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.checked import RowsRead, digest, mark_bad, read_rows, require_good
from forkdiv.tasks.own_data.columns import Row, prompt_id
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig
from forkdiv.tasks.own_data.judged import judge

WHOLE = "problems"  # the subset of data without a subset column

# The hash of its prompt puts a problem into one of ten parts. With a test file, part 9 is training
# data; the validation part is the same in both cases.
VALIDATION, TEST = 8, 9


Role = Literal["train", "test"]


@dataclass(frozen=True)
class _Data:
    """Both files, checked, and the rows of each split by prompt."""

    train: RowsRead | None
    test: RowsRead | None
    splits: Mapping[str, Mapping[str, Sequence[Row]]]


UNGRADED = "none"


class OwnData(Task):
    """The task; the module docstring shows a problem. Rows are read at their first use and kept in
    memory; grading a response does not read them."""

    config_class: ClassVar[type[FileConfig]] = FileConfig
    config: FileConfig

    knobs = frozenset({"synthesis"})
    licence = "as its source"

    def __init__(self, config: FileConfig) -> None:
        super().__init__(config)
        if config.train is None and config.test is None:
            raise refuse(
                "task.kind=file needs a data file",
                "neither task.train nor task.test",
                "task.train, task.test or both",
                "set task.train=FILE or task.test=FILE",
            )
        self.graded = config.grader != UNGRADED
        # without a grader only work without verdicts is possible: audit, fine-tuning
        self._grader = build_grader(config.grader if self.graded else "exact")
        self.grading_selects_rows = self.graded and config.on_bad_row == "skip"
        # a user's function may return only a bool
        self.votes = ":" not in config.grader and getattr(self._grader, "votes", True)

    @cached_property
    def thinking_tags(self) -> tuple[str, str] | None:  # type: ignore[override]
        """The tags around the thinking in the completions."""
        reads = (read for read in (self._data.train, self._data.test) if read)
        return tags_in(row.completion for read in reads for row in read.rows if row.completion)

    @cached_property
    def subsets(self) -> Sequence[str]:  # type: ignore[override]
        """The subsets of the held-out problems in order of appearance, of any size."""
        heldout = (self._data.splits[split].values() for split in ("validation", "test"))
        return tuple(dict.fromkeys(_subset(rows) for split in heldout for rows in split))

    @cached_property
    def sizes(self) -> Mapping[str, int]:  # type: ignore[override]
        """The number of completions in `train`, and of problems in the other splits."""
        return {split: self.available(split) for split in SPLITS} | {
            "train": len(self.training_rows)
        }

    def identity(self) -> dict[str, Any]:
        """The config with the digest of the files in place of their paths."""
        unset = {name for name in ("skip_train", "skip_test") if not getattr(self.config, name)}
        settings = self.config.model_dump(exclude={"train", "test", *unset})
        # which rows are skipped depends on how their thinking is read
        skips = self.config.on_bad_row == "skip" and self.thinking_tags
        thinking = {"thinking": list(self.thinking_tags)} if skips and self.thinking_tags else {}
        return settings | {"content": self.digest} | thinking

    def grading(self) -> dict[str, Any]:
        """The grader's version, libraries and source."""
        return dict(self._grader.identity()) if self.graded else {}

    @cached_property
    def digest(self) -> str:
        """A digest of the files' content; it does not depend on their names or locations."""
        whole = hashlib.sha256()
        for role, path in (("train", self.config.train), ("test", self.config.test)):
            whole.update(f"{role}:{digest(path) if path else None}\n".encode())
        return whole.hexdigest()

    @cached_property
    def notes(self) -> Sequence[str]:  # type: ignore[override]
        """The columns that were read, the rows that were skipped and the split of the problems."""
        data = self._data
        reads = [read for read in (data.train, data.test) if read]
        notes = [f"{read.file}: {_columns(read.columns)}" for read in reads]
        notes += [read.skipped for read in reads if read.skipped]
        notes += [read.rejected_report for read in reads if read.rejected_report]
        if data.train:
            shares = "a tenth is" if data.test else "a tenth each is"
            splits = "validation" if data.test else "validation and test"
            notes.append(f"of the problems in {data.train.file} {shares} {splits}, by their prompt")
        rows = sum(map(len, data.splits["train"].values()))
        if not self.graded and data.train and not _has_completions(data.train.columns):
            answer = data.train.columns.answer
            notes.append(f"no row has a completion: {answer!r} is read as the response")
        elif missing := rows - len(self.training_rows):
            notes.append(f"{missing:,} rows of the train split have no completion to train on")
        return tuple(notes)

    @cached_property
    def warnings(self) -> Sequence[str]:  # type: ignore[override]
        """The rows that are graded although their completion has another answer."""
        reads = (read for read in (self._data.train, self._data.test) if read)
        return tuple(read.rejected_report for read in reads if read.rejected_report)

    def unavailable(self) -> str | None:
        """What the grader needs and this machine lacks."""
        lacks: Callable[[], str | None] | None = getattr(self._grader, "unavailable", None)
        return lacks() if lacks else None

    def available(self, split: str) -> int:
        return len(self._data.splits[split])

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        """All problems of the split or the first `count`, in a random order set by the seed."""
        rows = list(self._data.splits[split].values())
        if not rows:
            raise refuse(
                f"the data has no problems in the {split} split",
                f"task.train={self.config.train}, task.test={self.config.test}",
                "a file with more problems, or separate files for train and test",
                f"set task.train and task.test to such files, or use a split other than {split}",
            )
        if not self.graded:
            raise no_grader("measure a model")
        requested = len(rows) if count is None else count
        if requested > len(rows):
            raise too_few(split, requested, len(rows))
        derive("heldout", split, self.config.seed).shuffle(rows)
        return [self._problem(solutions, split) for solutions in rows[:requested]]

    def sft_examples(self, config: DatasetConfig) -> Iterator[Example]:
        """The train split's completions, grouped by problem in a random order set by the seed."""
        return self._shuffled(self.examples(config), config.seed)

    def examples(self, config: DatasetConfig) -> int:
        """The requested number of examples. Raises UserError if the train split has fewer."""
        available = len(self.training_rows)
        if not available:
            raise self._nothing_to_train_on()
        if config.examples and config.examples > available:
            raise refuse(
                "the data has fewer examples than requested",
                f"dataset.examples={config.examples}",
                f"up to {available}",
                "lower dataset.examples, or remove it to use all examples",
            )
        return config.examples or available

    def training_examples(self) -> Iterator[Example]:
        """Yields every completion of the train file, whatever the split of its problem; those of
        one problem are consecutive. If no row has a completion, the answers are the responses: in
        GSM8K's files they are worked solutions."""
        by_prompt: dict[str, list[tuple[Row, str]]] = {}
        answers_only = self._data.train is not None and _answers_only(self._data.train)
        for row in self._data.train.rows if self._data.train else ():
            response = row.answer if answers_only else row.completion
            if response is not None:
                by_prompt.setdefault(row.prompt, []).append((row, response))
        for pairs in by_prompt.values():
            problem = self._problem([row for row, _ in pairs], "train")
            yield from (example(problem, Trace(response, ""), ()) for _, response in pairs)

    def shot_pool(self) -> Iterator[tuple[str, str]]:
        """The completions of the train split; without them, the answers of a training file."""
        if self.config.train is None:
            raise no_shots("a file of problems without a training file")
        for row in self.training_rows:
            assert row.completion is not None
            yield row.prompt, row.completion

    def _nothing_to_train_on(self) -> UserError:
        read = self._data.train
        if read is None:
            came, remedy = "no task.train", "set task.train=FILE"
        elif _answers_only(read) and read.columns.answer:
            came = f"{len(read.rows):,} rows with answers only in {self.config.train}"
            remedy = (
                "set task.columns.completion to the column of responses; if the answers are worked "
                f"solutions, set task.columns.completion={read.columns.answer}"
            )
        else:
            count = len(self._data.splits["train"])
            came = f"{count:,} problems in the train split of {self.config.train}"
            remedy = "use a file with more problems, or set task.columns.completion"
        return refuse(
            "the data has no completions to train on",
            came,
            "a train file with a column of completions",
            remedy,
        )

    def solutions(self, problem: Problem) -> list[Trace]:
        """The completions in the files for the problem's prompt."""
        by_split = (split.get(problem.prompt, ()) for split in self._data.splits.values())
        return [Trace(row.completion, "") for rows in by_split for row in rows if row.completion]

    def references(self, problem: Problem) -> Sequence[str]:
        """The reference answer as the grader reads it; the files were checked with it."""
        return (self._grader.reference(problem.facts["answer"]),) if self.votes else ()

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self._grader.grade(problem.facts["answer"], text)

    def canaries(self) -> list[tuple[Problem, str, Outcome]]:
        return [
            (Problem(f"canary-{n}", "test", "", "", {"answer": answer}), text, outcome)
            for n, (answer, text, outcome) in enumerate(self._grader.canaries)
        ]

    @cached_property
    def _data(self) -> _Data:
        """Raises UserError for bad rows unless `FileConfig.on_bad_row` allows them."""
        test = self._read(self.config.test, "test") if self.config.test else None
        train = self._read(self.config.train, "train") if self.config.train else None
        if test and train:
            train = mark_bad(train, _in_both(train, test))
        require_good([read for read in (train, test) if read], self.config.on_bad_row)
        train, test = self._without(train, "train"), self._without(test, "test")
        splits: dict[str, dict[str, list[Row]]] = {split: {} for split in SPLITS}
        for row in train.rows if train else ():
            split = _split(row.prompt, has_test=test is not None)
            splits[split].setdefault(row.prompt, []).append(row)
        for row in test.rows if test else ():
            splits["test"].setdefault(row.prompt, []).append(row)
        return _Data(train, test, splits)

    def _without(self, read: RowsRead | None, role: str) -> RowsRead | None:
        """Returns the file without the rows that the config leaves out."""
        lines = getattr(self.config, f"skip_{role}")
        reasons = dict.fromkeys(lines, f"is in task.skip_{role}")
        if read is None or not reasons:
            return read
        skipped = mark_bad(
            read, {row.line: reasons[row.line] for row in read.rows if row.line in reasons}
        )
        require_good([skipped], "skip")
        return skipped

    @property
    def files(self) -> Mapping[str, RowsRead]:
        """The files by their role, `train` and `test`, as they were read."""
        both = {"train": self._data.train, "test": self._data.test}
        return {role: read for role, read in both.items() if read}

    def heldout_rows(self, role: str, split: str) -> Sequence[Row]:
        """Returns the rows of the file with this role whose problems are in the split."""
        read = self._data.test if split == "test" and self._data.test else self._data.train
        if read is not self.files.get(role) or split == "train":
            return ()
        return [row for rows in self._data.splits[split].values() for row in rows]

    def _read(self, path: Path, role: Role) -> RowsRead:
        """Returns the file's rows, checked. With two files, each may lack the columns that only
        the other needs."""
        read = self._rows(path, role)
        if self.graded:
            return judge(read, self._grader, trains=role == "train")
        answers_only = _answers_only(read)
        rows = (
            replace(row, completion=row.answer if answers_only else row.completion, answer="")
            for row in read.rows
        )
        return replace(read, rows=tuple(rows))

    def _rows(self, path: Path, role: Role) -> RowsRead:
        both = self.config.train and self.config.test
        optional = "answer" if role == "train" else "completion"
        optional_columns = frozenset({optional, "subset"} if both else ())
        return read_rows(path, self.config.format, self.config.columns, optional_columns)

    @cached_property
    def training_rows(self) -> Sequence[Row]:
        """The rows of the train split that have a completion."""
        rows = (row for rows in self._data.splits["train"].values() for row in rows)
        return [row for row in rows if row.completion is not None]

    def _shuffled(self, count: int, seed: int) -> Iterator[Example]:
        prompts = list(dict.fromkeys(row.prompt for row in self.training_rows))
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


def _has_completions(columns: ColumnsConfig) -> bool:
    return bool(columns.completion or columns.messages)


def _answers_only(read: RowsRead) -> bool:
    return all(row.completion is None for row in read.rows)


def _subset(rows: Sequence[Row]) -> str:
    return rows[0].subset or WHOLE


def _split(prompt: str, has_test: bool) -> str:
    tenth = int(prompt_id(prompt), 16) % 10
    if tenth == TEST and not has_test:
        return "test"
    return "validation" if tenth == VALIDATION else "train"


def _in_both(train: RowsRead, test: RowsRead) -> dict[int, str]:
    """Returns, by line, why training rows whose prompts are also in the test file are bad."""
    heldout = {row.prompt: row.line for row in reversed(test.rows)}
    where = f"of task.test ({test.file})"
    return {
        row.line: f"has the same prompt as {test.unit} {heldout[row.prompt]} {where}"
        for row in train.rows
        if row.prompt in heldout
    }


def _columns(columns: ColumnsConfig) -> str:
    roles = {role: name for role, name in columns.model_dump().items() if name is not None}
    return "columns " + ", ".join(f"{name!r} as {role}" for role, name in roles.items())
