"""The documents of one samples file: each once, whatever filters its responses went through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from forkdiv.core.errors import refuse
from forkdiv.lm_eval.files import SamplesFile
from forkdiv.lm_eval.lines import SampleLine, digest, read


@dataclass(frozen=True)
class Document:
    """A document of one file; `line` is the first of its lines, without what was answered.

    `content` makes it the same problem elsewhere, `draw` stands for its `n` responses in their
    order, `alike` for the one text that all of them are, if they are.
    """

    line: SampleLine
    n: int
    content: str
    draw: str
    alike: str | None
    filters: frozenset[str]


@dataclass(frozen=True)
class FileRead:
    """One file, looked through. `per_sample` are the metrics that judge every sample, each as
    `metric,filter`; `sums` are those of metrics from 0 to 1 with a value for each document;
    `verdicts` says that all lines have verdicts of forkdiv's own."""

    file: SamplesFile
    documents: Mapping[int, Document]
    per_sample: frozenset[str]
    sums: Mapping[str, float]
    verdicts: bool

    @property
    def first(self) -> SampleLine:
        return next(iter(self.documents.values())).line


def look_through(file: SamplesFile) -> FileRead:
    """Raises UserError, naming file and line, for what leaves a document's samples in doubt."""
    documents: dict[int, Document] = {}
    per_sample: dict[str, set[str]] = {}
    values: dict[str, list[Any]] = {}
    verdicts = True
    for line in read(file.path):
        verdicts = verdicts and line.verdicts is not None
        judging = {name for name in line.metrics if line.per_sample(name) is not None}
        per_sample[line.filter] = per_sample.get(line.filter, judging) & judging
        for name, value in line.metrics.items():
            values.setdefault(f"{name},{line.filter}", []).append(value)
        seen = documents.get(line.doc_id)
        documents[line.doc_id] = _again(seen, line) if seen else _document(line)
    _require_every_filter(documents)
    names = {f"{name},{filter}" for filter, some in per_sample.items() for name in some}
    sums = {name: sum(some) for name, some in values.items() if all(map(_is_share, some))}
    return FileRead(file, documents, frozenset(names), sums, verdicts)


def _is_share(value: object) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value <= 1


def _document(line: SampleLine) -> Document:
    texts = set(line.responses)
    return Document(
        line=replace(line, responses=(), kept=None, metrics={}, verdicts=None),
        n=len(line.responses),
        content=line.content,
        draw=line.draw,
        alike=digest(min(texts)) if len(texts) == 1 else None,
        filters=frozenset({line.filter}),
    )


def _again(seen: Document, line: SampleLine) -> Document:
    if line.filter in seen.filters:
        raise refuse(
            f"document {line.doc_id} is there twice",
            f"{seen.line.where} and {line.where}, both under the filter {line.filter!r}",
            "each document once under each filter",
            "drop one of the lines",
        )
    if line.draw != seen.draw or line.content != seen.content:
        raise refuse(
            f"two lines of document {line.doc_id} do not hold the same responses",
            f"{seen.line.where} and {line.where}",
            "the same responses under every filter",
            "keep one run in a file",
        )
    return replace(seen, filters=seen.filters | {line.filter})


def _require_every_filter(documents: Mapping[int, Document]) -> None:
    every = frozenset[str]().union(*(one.filters for one in documents.values()))
    for one in documents.values():
        if lacking := every - one.filters:
            raise refuse(
                f"document {one.line.doc_id} lacks a filter that others have",
                f"{one.line.where} without {', '.join(sorted(lacking))}",
                "a file that was written to its end",
                "run the tool again",
            )
