"""The samples of one model: the problems in its files, and the number of samples of each.

Files are read twice, line by line: first here, to collect the problems, then again for grading.
Responses are not kept in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forkdiv.core.errors import UserError, refuse
from forkdiv.core.records import Problem
from forkdiv.lm_eval.document import Document, FileContent, scan
from forkdiv.lm_eval.files import SamplesFile
from forkdiv.lm_eval.lines import SampleLine, decoder_settings, read
from forkdiv.tasks.own_data.columns import USUAL_NAMES
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.file import quoted
from forkdiv.tasks.own_data.judged import RESERVED

DEFAULT_SUBSET = "problems"  # for documents without a subset

DocumentKey = tuple[Path, int]  # file and doc_id


@dataclass(frozen=True)
class Samples:
    """The content of one model's files: `n` samples of each problem.

    For each problem, `keys` has an identifier that is the same in the files of every model,
    `locations` the line on which it first occurs, and `response_digests` a digest of its
    responses. `per_sample` names the metrics, as `metric,filter`, that have a verdict on every
    sample; `means` has the means that lm_eval computed, for metrics with values in [0, 1].
    `verdicts` is true if the files contain verdicts that forkdiv wrote, `all_equal` if all samples
    of each problem are equal. `settings` are the generation arguments of the first line.
    `problem_index` maps a document to the index of its problem.
    """

    files: tuple[SamplesFile, ...]
    problems: tuple[Problem, ...]
    keys: tuple[str, ...]
    locations: tuple[str, ...]
    response_digests: tuple[str, ...]
    n: int
    all_equal: bool
    per_sample: frozenset[str]
    means: Mapping[str, float]
    verdicts: bool
    settings: Mapping[str, Any]
    problem_index: Mapping[DocumentKey, int]
    filters: Mapping[Path, str]  # the first filter of each file

    def lines(self, filter: str | None = None) -> Iterator[tuple[int, SampleLine]]:
        """Yields the lines of one filter, each with the index of its problem. With None, the
        first filter of each file: all filters have the same responses."""
        for file in self.files:
            chosen = self.filters[file.path] if filter is None else filter
            for line in read(file.path):
                if line.filter == chosen:
                    yield self.problem_index[file.path, line.doc_id], line

    @property
    def tasks(self) -> list[str]:
        """Returns the names of the tasks; empty if no file name contains one."""
        return sorted({file.task for file in self.files if file.task})


@dataclass
class _Group:
    """One problem and the documents with its samples."""

    first: SampleLine
    task: str
    documents: list[DocumentKey] = field(default_factory=list)
    response_digests: list[str] = field(default_factory=list)
    common_texts: set[str | None] = field(default_factory=set)
    n: int = 0

    def add(self, path: Path, document: Document) -> None:
        if document.line.target != self.first.target:
            raise refuse(
                "one problem has two different targets",
                f"{quoted(self.first.target)} ({self.first.location}), "
                f"{quoted(document.line.target)} ({document.line.location})",
                "one reference answer for each problem",
                "use samples of one version of the task only",
            )
        if document.line.valid != self.first.valid:
            raise refuse(
                "one problem has two different numbers of `valid_solutions`",
                f"{self.first.valid} ({self.first.location}), {document.line.valid} "
                f"({document.line.location})",
                "one number for each problem",
                "use samples of one version of the task only",
            )
        self.documents.append((path, document.line.doc_id))
        self.response_digests.append(document.responses_digest)
        self.common_texts.add(document.common_text)
        self.n += document.n


def read_samples(files: Sequence[SamplesFile], columns: ColumnsConfig) -> Samples:
    """Reads the files of one model. Samples of one task from several files are combined.

    Raises UserError, which names file and line, if the samples of a problem are ambiguous.
    """
    contents = [scan(file) for file in files]
    _require_equal_decoders(contents)
    several_tasks = len({file.task for file in files}) > 1
    by_key = _group_by_problem(contents, several_tasks)
    groups = list(by_key.values())
    n = _samples_per_problem(groups)
    all_equal = n > 1 and all(
        len(group.common_texts) == 1 and None not in group.common_texts for group in groups
    )
    return Samples(
        files=tuple(files),
        problems=tuple(_problems(groups, columns, several_tasks)),
        keys=tuple(by_key),
        locations=tuple(group.first.location for group in groups),
        response_digests=tuple(" ".join(group.response_digests) for group in groups),
        n=n,
        all_equal=all_equal,
        per_sample=frozenset.intersection(*(content.per_sample for content in contents)),
        means=_means(contents),
        verdicts=all(content.verdicts for content in contents),
        settings=contents[0].first.settings,
        problem_index={piece: at for at, group in enumerate(groups) for piece in group.documents},
        filters={content.file.path: content.first.filter for content in contents},
    )


def _require_equal_decoders(contents: Sequence[FileContent]) -> None:
    first, *others = contents
    for other in others:
        if decoder_settings(first.first.settings) != decoder_settings(other.first.settings):
            raise refuse(
                "two files of one model were sampled with different decoders",
                f"{decoder_settings(first.first.settings)} on {first.first.location}, "
                f"{decoder_settings(other.first.settings)} on {other.first.location}",
                "one decoder for all files",
                "pass only the files of one decoder",
            )


def _means(contents: Sequence[FileContent]) -> dict[str, float]:
    """Returns the means over the documents of all files, for metrics that every file has."""
    documents = sum(len(content.documents) for content in contents)
    names = set(contents[0].sums).intersection(*(content.sums for content in contents[1:]))
    return {
        name: sum(content.sums[name] for content in contents) / documents for name in sorted(names)
    }


def _group_by_problem(contents: Sequence[FileContent], several_tasks: bool) -> dict[str, _Group]:
    """Groups the documents by problem, in order of appearance."""
    groups: dict[str, _Group] = {}
    digests: dict[Path, dict[str, list[str]]] = {}
    for content in contents:
        task = content.file.task if several_tasks else ""
        seen: Counter[str] = Counter()
        file_digests = digests.setdefault(content.file.path, {})
        for document in content.documents.values():
            key = f"{task}/{document.content_digest}/{seen[document.content_digest]}"
            seen[document.content_digest] += 1
            groups.setdefault(key, _Group(document.line, task)).add(content.file.path, document)
            file_digests.setdefault(key, []).append(document.responses_digest)
    _require_different_samples(digests)
    return groups


def _require_different_samples(digests: Mapping[Path, Mapping[str, Sequence[str]]]) -> None:
    """Refuses equal samples: lm_eval uses the same seed for every run unless --seed is set, so
    that a repeated run draws the same samples again."""
    files = list(digests)
    for at, file in enumerate(files):
        for other in files[at + 1 :]:
            shared = digests[file].keys() & digests[other].keys()
            if shared and all(digests[file][key] == digests[other][key] for key in shared):
                raise refuse(
                    "two files contain the same samples",
                    f"{file} and {other}",
                    "different samples in each file (lm_eval runs with equal --seed draw the same)",
                    "remove one of the files",
                )


def _samples_per_problem(groups: Sequence[_Group]) -> int:
    counts = Counter(group.n for group in groups)
    n, problems = counts.most_common(1)[0]
    deviating = [group.first for group in groups if group.n != n]
    if deviating:
        others = ", ".join(str(count) for count in sorted(counts) if count != n)
        named = [f"document {line.doc_id} ({line.location})" for line in deviating[:3]]
        raise refuse(
            "problems have different numbers of samples",
            f"{n} for {problems} problems, but {others} for {len(deviating)}: "
            f"{', '.join(named)}{' …' if deviating[3:] else ''}",
            "the same number for every problem",
            "complete the files, or remove the lines of those documents",
        )
    return n


def _problems(
    groups: Sequence[_Group], columns: ColumnsConfig, several_tasks: bool
) -> Iterator[Problem]:
    for id, group in zip(_ids(groups, columns), groups, strict=True):
        subset = (
            group.task
            if several_tasks and columns.subset is None
            else _subset(group.first, columns)
        )
        facts = {"answer": _answer(group.first, columns)}
        yield Problem(id, "test", subset, group.first.prompt, facts)


def _ids(groups: Sequence[_Group], columns: ColumnsConfig) -> list[str]:
    """Returns the ids in the documents if every document has one, else the document numbers."""
    key = columns.id or USUAL_NAMES["id"][0]
    doc_ids = [group.first.doc.get(key) for group in groups]
    usable = all(isinstance(id, str | int) for id in doc_ids)
    ids = [
        "/".join(filter(None, (group.task, str(id if usable else group.first.doc_id))))
        for group, id in zip(groups, doc_ids, strict=True)
    ]
    # ids may repeat, and so may document numbers when one file continues another
    return ids if len(set(ids)) == len(ids) else list(map(str, range(len(groups))))


def _subset(line: SampleLine, columns: ColumnsConfig) -> str:
    key = columns.subset or USUAL_NAMES["subset"][0]
    value = line.doc.get(key)
    if value is None and columns.subset:
        raise _no_key(line, "subset", key)
    if value == RESERVED:
        raise refuse(
            f"the document on {line.location} has the reserved subset name {RESERVED!r}",
            f"{key}: {RESERVED}",
            "any other name: results use this name for all problems together",
            "rename the subset",
        )
    return DEFAULT_SUBSET if value is None or value == "" else str(value)


def _answer(line: SampleLine, columns: ColumnsConfig) -> str:
    if columns.answer is None:
        return line.target
    value = line.doc.get(columns.answer)
    if isinstance(value, dict | list) or value is None:
        raise _no_key(line, "answer", columns.answer)
    return str(value)


def _no_key(line: SampleLine, role: str, key: str) -> UserError:
    return refuse(
        f"the document on {line.location} has no {role}",
        f"task.columns.{role}={key}",
        f"one of its keys: {', '.join(line.doc) or 'none'}",
        f"correct task.columns.{role}",
    )
