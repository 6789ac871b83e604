"""The documents of one samples file: each once, with all filters applied to its responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from forkdiv.core.errors import refuse
from forkdiv.lm_eval.files import SamplesFile
from forkdiv.lm_eval.lines import SampleLine, decoder_settings, digest, read


@dataclass(frozen=True)
class Document:
    """A document of one file; `line` is the first of its lines, without responses and metrics.

    `content_digest` identifies the same problem in other files, `responses_digest` its `n`
    responses in their order. `common_text` is the digest of the response text if all responses
    are equal, else None.
    """

    line: SampleLine
    n: int
    content_digest: str
    responses_digest: str
    common_text: str | None
    filters: frozenset[str]


@dataclass(frozen=True)
class FileContent:
    """The content of one file.

    `per_sample` names the metrics that judge every sample, each as `metric,filter`. `sums` has
    the sum over documents of each metric with a value in [0, 1] for every document. `verdicts`
    is true if all lines have verdicts that forkdiv wrote.
    """

    file: SamplesFile
    documents: Mapping[int, Document]
    per_sample: frozenset[str]
    sums: Mapping[str, float]
    verdicts: bool

    @property
    def first(self) -> SampleLine:
        return next(iter(self.documents.values())).line


def scan(file: SamplesFile) -> FileContent:
    """Reads a file without keeping its responses.

    Raises UserError, which names file and line, if the samples of a document are ambiguous, or the
    lines differ in their decoder.
    """
    documents: dict[int, Document] = {}
    per_sample: dict[str, set[str]] = {}
    values: dict[str, list[Any]] = {}
    verdicts = True
    first: SampleLine | None = None
    for line in read(file.path):
        first = first or replace(line, responses=(), filtered=None, metrics={}, verdicts=None)
        _require_equal_decoder(first, line)
        verdicts = verdicts and line.verdicts is not None
        judging = {name for name in line.metrics if line.per_sample(name) is not None}
        per_sample[line.filter] = per_sample.get(line.filter, judging) & judging
        for name, value in line.metrics.items():
            values.setdefault(f"{name},{line.filter}", []).append(value)
        previous = documents.get(line.doc_id)
        documents[line.doc_id] = _add_filter(previous, line) if previous else _document(line)
    _require_every_filter(documents)
    judging_names = {
        f"{name},{filter}" for filter, metrics in per_sample.items() for name in metrics
    }
    sums = {name: sum(column) for name, column in values.items() if all(map(_is_share, column))}
    return FileContent(file, documents, frozenset(judging_names), sums, verdicts)


def _require_equal_decoder(first: SampleLine, line: SampleLine) -> None:
    one, other = decoder_settings(first.settings), decoder_settings(line.settings)
    if one != other:
        raise refuse(
            "the lines of one file were sampled with different decoders",
            f"{one} on {first.location}, {other} on {line.location}",
            "one temperature, and one value of every other setting of the decoder, in a file",
            "put the lines of each decoder into a file of their own",
        )


def _is_share(value: object) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value <= 1


def _document(line: SampleLine) -> Document:
    texts = set(line.responses)
    return Document(
        line=replace(line, responses=(), filtered=None, metrics={}, verdicts=None),
        n=len(line.responses),
        content_digest=line.content_digest,
        responses_digest=line.responses_digest,
        common_text=digest(min(texts)) if len(texts) == 1 else None,
        filters=frozenset({line.filter}),
    )


def _add_filter(previous: Document, line: SampleLine) -> Document:
    if line.filter in previous.filters:
        raise refuse(
            f"document {line.doc_id} occurs twice",
            f"{previous.line.location} and {line.location}, both with the filter {line.filter!r}",
            "each document once for each filter",
            "remove one of the lines",
        )
    if (
        line.responses_digest != previous.responses_digest
        or line.content_digest != previous.content_digest
    ):
        raise refuse(
            f"two lines of document {line.doc_id} have different responses",
            f"{previous.line.location} and {line.location}",
            "the same responses for every filter",
            "keep the lines of one run only",
        )
    return replace(previous, filters=previous.filters | {line.filter})


def _require_every_filter(documents: Mapping[int, Document]) -> None:
    every = frozenset[str]().union(*(document.filters for document in documents.values()))
    for document in documents.values():
        if missing := every - document.filters:
            raise refuse(
                f"document {document.line.doc_id} has no line for a filter that others have",
                f"{document.line.location} without {', '.join(sorted(missing))}",
                "a complete file (a stopped lm_eval run leaves an incomplete file)",
                "run lm_eval again",
            )
