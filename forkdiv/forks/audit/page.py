"""Writes the files of an audit: JSON for other tools, tables, and one self-contained page."""

from __future__ import annotations

import csv
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from forkdiv.core.html import environment
from forkdiv.core.store import publish_file, write_text
from forkdiv.forks.audit.audit import Audit
from forkdiv.forks.audit.fork_stats import CONTEXT_CHARS, word_at
from forkdiv.forks.audit.samples import MEANINGS, SYMBOLS, samples
from forkdiv.forks.audit.text import (
    WAY_TITLES,
    lead,
    limits,
    lookalike_sentences,
    most_under_covered,
)
from forkdiv.forks.sites import Site

TEMPLATES = Path(__file__).parent / "templates"
SUMMARY, FORKS, EXAMPLES, PAGE = "audit.json", "forks.parquet", "examples.csv", "audit.html"
ROWS_PER_BATCH = 4096
SCHEMA = pa.schema(
    [
        ("way", pa.string()),
        ("row", pa.int64()),
        ("problem_id", pa.string()),
        ("subset", pa.string()),
        ("mode", pa.string()),
        ("fork", pa.string()),
        ("at", pa.int64()),
        ("word", pa.int64()),
        ("before", pa.string()),
        ("taken", pa.string()),
        ("branches", pa.list_(pa.string())),
        ("shown", pa.list_(pa.int64())),  # responses that take each of `branches`
        ("right", pa.list_(pa.bool_())),  # null if unknown
        ("chance", pa.list_(pa.float64())),  # the model's; null below audit.min_probability
        ("signed", pa.bool_()),
        ("entropy", pa.float64()),
        ("coverage", pa.float64()),
        ("under_covered", pa.bool_()),
    ]
)


RATES = {
    "tree": {
        "precision": "precision",
        "recall": "recall, all forks",
        "recall_several_solutions": "recall, problems with several solutions",
        "recall_two_shown": "recall, forks with two branches shown",
    },
    "model": {
        "precision": "precision",
        "recall": "recall, all forks",
        "recall_unsigned": "recall, unsigned forks",
        "recall_signed": "recall, signed forks",
    },
    "learnability": {
        "precision": "precision",
        "recall": "recall, unsigned forks",
        "signed_left": "signed forks left to the base",
    },
}
NUMBERS = (
    ("responses read", ("examples",)),
    ("forks, counted in each response", ("sites",)),
    ("different forks (prompt and prefix)", ("forks",)),
    ("forks per response", ("forks_per_example",)),
    ("forks per 100 words", ("forks_per_100_words",)),
    ("forks per 100 tokens of the model", ("forks_per_100_tokens",)),
    ("share of unsigned forks (fork density)", ("fork_density",)),
    ("branches known per fork", ("mean_branches",)),
    ("branches shown per fork", ("mean_shown",)),
    ("forks with several right, or likely, branches", ("coverage", "defined")),
    ("of these, under-covered", ("coverage", "under_covered")),
    ("share of these branches shown, after the same prefix", ("coverage", "mean")),
    ("share of these branches shown, anywhere in the problem", ("coverage_in_problem", "mean")),
    ("responses that take a wrong branch", ("astray",)),
)

Table = tuple[list[str], list[list[str]]]


def write(audit: Audit, folder: Path) -> Path:
    """Writes `audit.json`, `forks.parquet` (one row for each fork of each example), `examples.csv`
    (one row for each example) and `audit.html`, each atomically. Returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(audit.summary, indent=1, allow_nan=False)
    _write_forks(audit, folder / FORKS)
    _write_examples(audit, folder / EXAMPLES)
    write_text(folder / PAGE, _page(audit))
    write_text(folder / SUMMARY, text)
    return folder / PAGE


def _write_forks(audit: Audit, path: Path) -> None:
    rows = (
        {"way": way, **_row(site, audit)}
        for way, site_set in audit.site_sets.items()
        for site in site_set.sites
    )
    with (
        _atomic_path(path) as partial,
        pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer,
    ):
        while part := list(islice(rows, ROWS_PER_BATCH)):
            writer.write_table(pa.Table.from_pylist(part, SCHEMA))


def _row(site: Site, audit: Audit) -> dict[str, Any]:
    example = audit.examples[site.row]
    branches = list(dict.fromkeys((*site.branches, *site.shown)))
    chances = dict(zip(site.branches, site.chances or (), strict=False))
    return {
        "row": site.row,
        "problem_id": site.problem_id,
        "subset": example.subset,
        "mode": example.mode,
        "fork": site.fork,
        "at": site.at,
        "word": word_at(example.response, site.at),
        "before": example.response[max(site.at - CONTEXT_CHARS, 0) : site.at],
        "taken": site.taken,
        "branches": branches,
        "shown": [site.shown.get(branch, 0) for branch in branches],
        "right": None if site.valid is None else [branch in site.valid for branch in branches],
        "chance": [chances.get(branch) for branch in branches] if site.chances else None,
        "signed": site.signed,
        "entropy": site.entropy,
        "coverage": site.coverage,
        "under_covered": site.under_covered,
    }


def _write_examples(audit: Audit, path: Path) -> None:
    forks, open_forks, unsigned = Counter[Any](), Counter[Any](), Counter[int]()
    for way, site_set in audit.site_sets.items():
        for site in site_set.sites:
            forks[way, site.row] += 1
            open_forks[way, site.row] += site.under_covered
            unsigned[site.row] += site.signed is False
    header = ["row", "problem_id", "subset", "mode", "words"]
    for way in audit.site_sets:
        header += [f"{way}_forks", f"{way}_under_covered"]
        header += ["exact_unsigned"] if way == "exact" else []
    with _atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        for row, example in enumerate(audit.examples):
            values: list[Any] = [row, example.problem_id, example.subset, example.mode]
            values.append(len(example.response.split()))
            for way, site_set in audit.site_sets.items():
                was_read = row in site_set.rows_read  # empty if this way did not read the row
                values += [forks[way, row], open_forks[way, row]] if was_read else ["", ""]
                if way == "exact":
                    values.append(unsigned[row] if was_read else "")
            writer.writerow(values)


@contextmanager
def _atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path, which is renamed to `path` after writing."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        publish_file(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _page(audit: Audit) -> str:
    summary = audit.summary
    config = summary["settings"]
    with_forks = {way: numbers for way, numbers in summary["ways"].items() if numbers["sites"]}
    values = {
        "summary": summary,
        "lead": lead(summary),
        "tables": _tables(summary),
        "titles": WAY_TITLES,
        "histograms": {way: _histogram(numbers) for way, numbers in with_forks.items()},
        "tenths": {way: _tenths(numbers) for way, numbers in with_forks.items()},
        "most_under_covered": most_under_covered(summary),
        "lookalikes": lookalike_sentences(summary),
        "samples": samples(
            audit.examples, audit.site_sets, config["shown"], config["min_probability"]
        ),
        "symbols": [(kind, SYMBOLS[kind], MEANINGS[kind]) for kind in SYMBOLS],
        "files": (FORKS, EXAMPLES, SUMMARY),
    }
    return environment(TEMPLATES).get_template("audit.html.j2").render(values)


def _tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns header and rows of each table; comparisons only if there is something to compare."""
    ways, comparison = summary["ways"], summary["against_exact"]
    tables: dict[str, Table] = {
        "numbers": (["", *(WAY_TITLES[way] for way in ways)], _numbers(ways)),
        "groups": (
            ["positions", "flagged", "of", "mean entropy (nats)"],
            [
                [
                    " ".join(filter(None, (group["what"], group["text"], group["mode"]))),
                    *_counts(group),
                ]
                for group in summary["lookalikes"]
            ],
        ),
    }
    for way, titles in RATES.items():
        if way in comparison:
            rows = [[title, limits(comparison[way][name])] for name, title in titles.items()]
            tables[way] = ([WAY_TITLES[way], ""], rows)
    if "model" in comparison:
        header = ["position", "flagged", "of", "mean entropy (nats)"]
        rows = [[group["kind"], *_counts(group)] for group in comparison["model"]["kinds"]]
        tables["kinds"] = (header, rows)
    return tables


def _counts(group: Mapping[str, Any]) -> list[str]:
    return [f"{group['flagged']:,}", f"{group['of']:,}", f"{group['mean_entropy']:.3f}"]


def _numbers(ways: Mapping[str, Any]) -> list[list[str]]:
    """Returns one row for each number and one column for each way, without empty rows."""
    rows = [
        [title, *(_cell(_nested(numbers, keys)) for numbers in ways.values())]
        for title, keys in NUMBERS
    ]
    return [row for row in rows if any(row[1:])]


def _nested(numbers: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        numbers = None if numbers is None else numbers[key]
    return numbers


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _histogram(numbers: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Returns forks by the number of branches shown; 8 and more in one bar."""
    counts: Counter[int] = Counter()
    for shown, forks in numbers["shown_histogram"].items():
        counts[min(int(shown), 8)] += forks
    return [(f"{n}{'+' if n == 8 else ''}", counts[n]) for n in range(1, max(counts) + 1)]


def _tenths(numbers: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [(f"{tenth}", count) for tenth, count in enumerate(numbers["places"]["tenths"], 1)]
