"""The samples of one model: the problems in its files, and how many samples of each.

Files are read twice, line by line: here to see what is in them, then to be graded. What is kept
are the problems, not the responses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forkdiv.core.config.decoder import KNOBS, lm_eval_name
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.records import Problem
from forkdiv.lm_eval.document import Document, FileRead, look_through
from forkdiv.lm_eval.files import SamplesFile
from forkdiv.lm_eval.lines import SampleLine, read
from forkdiv.tasks.own_data.columns import USUAL_NAMES
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.file import quoted
from forkdiv.tasks.own_data.judged import RESERVED

WHOLE = "problems"  # the subset of documents that name none

# the generation arguments under which samples of two models, or of two files, must be alike
DECODER = ("do_sample", *(lm_eval_name(name) for name, knob in KNOBS.items() if knob.shapes))

Piece = tuple[Path, int]  # file and doc_id


@dataclass(frozen=True)
class Samples:
    """What the files of one model hold: `n` samples of each problem.

    `keys` tell the problems apart, the same in every model's files; `wheres` name the line that
    each was first seen on, `draws` stand for its responses. `per_sample` are the metrics, each as
    `metric,filter`, that say of every sample whether it was correct; `means` are the tool's own
    numbers of metrics from 0 to 1. `verdicts` says that there are verdicts of forkdiv's own,
    `alike` that all samples of each problem are equal. `settings` are the generation arguments
    of the first line.
    """

    files: tuple[SamplesFile, ...]
    problems: tuple[Problem, ...]
    keys: tuple[str, ...]
    wheres: tuple[str, ...]
    draws: tuple[str, ...]
    n: int
    alike: bool
    per_sample: frozenset[str]
    means: Mapping[str, float]
    verdicts: bool
    settings: Mapping[str, Any]
    owners: Mapping[Piece, int]
    filters: Mapping[Path, str]  # each file's first

    def lines(self, filter: str | None = None) -> Iterator[tuple[int, SampleLine]]:
        """The lines of one filter, each with the index of its problem. None takes any one of
        them: all filters hold the same responses."""
        for file in self.files:
            chosen = self.filters[file.path] if filter is None else filter
            for line in read(file.path):
                if line.filter == chosen:
                    yield self.owners[file.path, line.doc_id], line

    @property
    def tasks(self) -> list[str]:
        """The tasks' names; empty where no file is named by one."""
        return sorted({file.task for file in self.files if file.task})


@dataclass
class _Group:
    """One problem and where its samples are."""

    first: SampleLine
    task: str
    pieces: list[Piece] = field(default_factory=list)
    draws: list[str] = field(default_factory=list)
    texts: set[str | None] = field(default_factory=set)
    n: int = 0

    def add(self, path: Path, one: Document) -> None:
        if one.line.target != self.first.target:
            raise refuse(
                "one problem has two targets",
                f"{quoted(self.first.target)} ({self.first.where}), "
                f"{quoted(one.line.target)} ({one.line.where})",
                "one reference answer of each problem",
                "keep samples of one release of a task",
            )
        self.pieces.append((path, one.line.doc_id))
        self.draws.append(one.draw)
        self.texts.add(one.alike)
        self.n += one.n


def take_in(files: Sequence[SamplesFile], columns: ColumnsConfig) -> Samples:
    """Look through the files. Several of one task are put together.

    Raises UserError, naming file and line, for whatever leaves a problem's samples in doubt.
    """
    found = [look_through(file) for file in files]
    _require_one_decoder(found)
    several = len({file.task for file in files}) > 1
    by_key = _grouped(found, several)
    groups = list(by_key.values())
    n = _equally_many(groups)
    alike = n > 1 and all(len(one.texts) == 1 and None not in one.texts for one in groups)
    return Samples(
        files=tuple(files),
        problems=tuple(_problems(groups, columns, several)),
        keys=tuple(by_key),
        wheres=tuple(one.first.where for one in groups),
        draws=tuple(" ".join(one.draws) for one in groups),
        n=n,
        alike=alike,
        per_sample=frozenset.intersection(*(each.per_sample for each in found)),
        means=_means(found),
        verdicts=all(each.verdicts for each in found),
        settings=found[0].first.settings,
        owners={piece: at for at, one in enumerate(groups) for piece in one.pieces},
        filters={each.file.path: each.first.filter for each in found},
    )


def decoder(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of the generation arguments shapes the distribution that was sampled."""
    return {name: settings[name] for name in DECODER if name in settings}


def _require_one_decoder(found: Sequence[FileRead]) -> None:
    first, *others = found
    for other in others:
        if decoder(first.first.settings) != decoder(other.first.settings):
            raise refuse(
                "two files of one model were not sampled alike",
                f"{decoder(first.first.settings)} on {first.first.where}, "
                f"{decoder(other.first.settings)} on {other.first.where}",
                "one decoder for all of them",
                "name the files of one decoder",
            )


def _means(found: Sequence[FileRead]) -> dict[str, float]:
    """Over the documents of all files; of metrics that all of them have."""
    documents = sum(len(each.documents) for each in found)
    names = set(found[0].sums).intersection(*(each.sums for each in found[1:]))
    return {name: sum(each.sums[name] for each in found) / documents for name in sorted(names)}


def _grouped(found: Sequence[FileRead], several: bool) -> dict[str, _Group]:
    """Problems by what tells them apart, in order of appearance."""
    groups: dict[str, _Group] = {}
    drawn: dict[Path, dict[str, list[str]]] = {}
    for each in found:
        task = each.file.task if several else ""
        seen: Counter[str] = Counter()
        mine = drawn.setdefault(each.file.path, {})
        for one in each.documents.values():
            key = f"{task}/{one.content}/{seen[one.content]}"
            seen[one.content] += 1
            groups.setdefault(key, _Group(one.line, task)).add(each.file.path, one)
            mine.setdefault(key, []).append(one.draw)
    _require_other_draws(drawn)
    return groups


def _require_other_draws(drawn: Mapping[Path, Mapping[str, Sequence[str]]]) -> None:
    """The tool seeds every run alike: one that is repeated draws the same samples again."""
    files = list(drawn)
    for at, one in enumerate(files):
        for other in files[at + 1 :]:
            shared = drawn[one].keys() & drawn[other].keys()
            if shared and all(drawn[one][key] == drawn[other][key] for key in shared):
                raise refuse(
                    "two files hold the same samples",
                    f"{one} and {other}",
                    "other samples in each (runs of lm_eval with equal --seed draw the same)",
                    "drop one of the files",
                )


def _equally_many(groups: Sequence[_Group]) -> int:
    counts = Counter(one.n for one in groups)
    n, problems = counts.most_common(1)[0]
    others = [one.first for one in groups if one.n != n]
    if others:
        named = [f"document {line.doc_id} ({line.where})" for line in others[:3]]
        raise refuse(
            "problems have different numbers of samples",
            f"{', '.join(map(str, sorted(counts)))}; not {n}, as {problems} of them have, "
            f"{len(others)}: {', '.join(named)}{' …' if others[3:] else ''}",
            "as many of each",
            "complete the files, or drop the lines of those documents",
        )
    return n


def _problems(groups: Sequence[_Group], columns: ColumnsConfig, several: bool) -> Iterator[Problem]:
    for id, one in zip(_ids(groups, columns), groups, strict=True):
        subset = one.task if several and columns.subset is None else _subset(one.first, columns)
        facts = {"answer": _answer(one.first, columns)}
        yield Problem(id, "test", subset, one.first.prompt, facts)


def _ids(groups: Sequence[_Group], columns: ColumnsConfig) -> list[str]:
    """The documents' own names where each has one, else their numbers."""
    key = columns.id or USUAL_NAMES["id"][0]
    own = [one.first.doc.get(key) for one in groups]
    named = all(isinstance(id, str | int) for id in own)
    ids = [
        "/".join(filter(None, (one.task, str(id if named else one.first.doc_id))))
        for one, id in zip(groups, own, strict=True)
    ]
    # names that repeat tell nothing apart, and neither do numbers where files continue others
    return ids if len(set(ids)) == len(ids) else list(map(str, range(len(groups))))


def _subset(line: SampleLine, columns: ColumnsConfig) -> str:
    key = columns.subset or USUAL_NAMES["subset"][0]
    found = line.doc.get(key)
    if found is None and columns.subset:
        raise _no_key(line, "subset", key)
    if found == RESERVED:
        raise refuse(
            f"the document on {line.where} is of the subset {RESERVED!r}",
            f"{key}: {RESERVED}",
            "any other name: it is what results call all problems together",
            "rename it",
        )
    return WHOLE if found is None or found == "" else str(found)


def _answer(line: SampleLine, columns: ColumnsConfig) -> str:
    if columns.answer is None:
        return line.target
    found = line.doc.get(columns.answer)
    if isinstance(found, dict | list) or found is None:
        raise _no_key(line, "answer", columns.answer)
    return str(found)


def _no_key(line: SampleLine, role: str, key: str) -> UserError:
    return refuse(
        f"the document on {line.where} names no {role}",
        f"task.columns.{role}={key}",
        f"one of its keys: {', '.join(line.doc) or 'none'}",
        f"correct task.columns.{role}",
    )
