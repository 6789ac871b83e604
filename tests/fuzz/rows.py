"""Cases of the readers of a user's rows, and of lm_eval's samples."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from forkdiv.lm_eval.files import find
from forkdiv.lm_eval.reading import read_samples
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig
from forkdiv.tasks.own_data.task import OwnData
from tests.fuzz.case import Case
from tests.fuzz.mutate import damage_file, damaged_value, dumped

csv.field_size_limit(2**31 - 1)
LM_EVAL = sorted((Path(__file__).parents[1] / "lm_eval" / "files").rglob("*.jsonl"))


def plain(rng: Random, sizes: Sequence[int] = (1, 3, 12)) -> list[dict[str, Any]]:
    """Rows of one of the usual layouts."""
    numbers = rng.sample(range(100), rng.choice(sizes))
    layout = rng.randrange(4)
    if layout == 0:
        return [
            {"question": f"What is {n} + 1?", "answer": f"{n} + 1 is\n#### {n + 1}", "id": at}
            for at, n in enumerate(numbers)
        ]
    if layout == 1:
        return [
            {"instruction": f"Add one to {n}", "input": "", "output": f"It is {n + 1}", "n": n / 4}
            for n in numbers
        ]
    if layout == 2:
        return [
            {
                "messages": [
                    {"role": "user", "content": f"{n} + {n}?"},
                    {"role": "assistant", "content": f"{2 * n}"},
                ]
            }
            for n in numbers
        ]
    return [
        {"prompt": f"{n}²?", "completion": str(n * n), "answer": n * n, "subset": "ab"[n % 2]}
        for n in numbers
    ]


def text_rows(folder: Path, rng: Random) -> Case:
    suffix = rng.choice((".jsonl", ".jsonl", ".json", ".csv", ".tsv"))
    path, what = folder / f"data{suffix}", ""
    rows: Any = plain(rng)
    if rng.random() < 0.6:
        what, rows = damaged_value(rows, rng)
    content = written(rows, suffix, rng)
    path.write_bytes(content)
    if not what or rng.random() < 0.3:
        what += damage_file(path, rng, is_json=False)
    if (
        path.is_file()
        and not path.is_symlink()
        and rng.random() < 0.1
        and path.stat().st_size < 2**20
    ):
        packed = gzip.compress(path.read_bytes())
        path = path.with_name(path.name + ".gz")
        path.write_bytes(packed)
        if rng.random() < 0.5:
            what += damage_file(path, rng, is_json=False)
    return _of_file("rows" + suffix, path, what)


def written(rows: Any, suffix: str, rng: Random) -> bytes:
    if suffix == ".json" or not isinstance(rows, list):
        return dumped(rows, rng)
    if suffix == ".jsonl":
        return b"\n".join(dumped(row, rng) for row in rows)
    out = io.StringIO()
    records = [row for row in rows if isinstance(row, dict)] or [{"prompt": 1}]
    writer = csv.writer(out, delimiter="\t" if suffix == ".tsv" else ",")
    writer.writerow(records[0])
    writer.writerows([_cell(value) for value in record.values()] for record in records)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def tables(folder: Path, rng: Random) -> Case:
    """Parquet, Arrow, and a folder that datasets saved."""
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    kind = rng.choice(("parquet", "parquet", "arrow", "saved"))
    table = pa.Table.from_pylist(plain(rng))
    path = folder / f"data.{kind}"
    damaged = path
    if kind == "parquet":
        pq.write_table(table, path, compression=rng.choice(("none", "zstd", "snappy")))
    elif kind == "arrow":
        feather.write_feather(table, path, compression="uncompressed")
    else:
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset(table).save_to_disk(str(path))
        damaged = rng.choice(sorted(path.iterdir()))
    what = damage_file(damaged, rng, is_json=damaged.suffix == ".json")
    return _of_file(f"rows.{kind}", path, what)


def _of_file(target: str, path: Path, what: str) -> Case:
    def read() -> OwnData:
        task = OwnData(FileConfig(train=path, grader="none", on_bad_row="skip"))
        list(task.training_examples())
        _ = task.notes, task.sizes, task.digest, task.subsets
        return task

    def wrong(task: OwnData) -> str | None:
        return _unlike_file(task, path) if path.suffix in (".jsonl", ".csv") else None

    return Case(target, what, read, wrong)


def _unlike_file(task: OwnData, path: Path) -> str | None:
    """Returns a prompt of an accepted file that an independent reader does not find in its row."""
    read = task.files["train"]
    column = read.columns.prompt
    if column is None or "[" in column or "." in column or read.columns.input:
        return None
    if path.suffix == ".csv":
        return _unlike_csv(task, path, column)
    lines = path.read_bytes().split(b"\n")
    if lines[0].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return None
    for row in read.rows:
        values = json.loads(lines[row.line - 1].removeprefix(b"\xef\xbb\xbf"))
        value = values.get(column)
        if isinstance(value, str) and not row.prompt.startswith(value):
            return f"line {row.line}: {value!r:.60} was read as {row.prompt!r:.60}"
    return None


def _unlike_csv(task: OwnData, path: Path, column: str) -> str | None:
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    known = {row.get(column) for row in csv.DictReader(io.StringIO(text, newline=""))}
    prompts = [row.prompt for row in task.files["train"].rows]
    return next((f"{p!r:.60} is not in the file" for p in prompts if p not in known), None)


def lm_eval(folder: Path, rng: Random) -> Case:
    source = rng.choice(LM_EVAL)
    path = folder / source.name
    lines: Any = [
        json.loads(line) for line in source.read_text().splitlines()[: rng.choice((2, 9))]
    ]
    if rng.random() < 0.65:
        what, lines = damaged_value(lines, rng)
        lines = lines if isinstance(lines, list) else [lines]
        path.write_bytes(b"\n".join(dumped(line, rng) for line in lines))
    else:
        path.write_text("\n".join(map(json.dumps, lines)))
        what = damage_file(path, rng, is_json=False)

    def read() -> Any:
        samples = read_samples(find([path]), ColumnsConfig())
        return samples, list(samples.lines())

    def wrong(value: Any) -> str | None:
        samples, read_lines = value
        if samples.n < 1 or not samples.problems:
            return f"{len(samples.problems)} problems with {samples.n} samples"
        by_id = {}
        for text in path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            if text.strip():
                row = json.loads(text)
                by_id[row["doc_id"], str(row.get("filter", "none"))] = row
        for _, line in read_lines:
            row = by_id[line.doc_id, line.filter]
            if list(line.responses) != row["resps"][0] or line.target != str(row["target"]):
                return f"document {line.doc_id} was read as another"
        return None

    return Case("lm_eval samples", what, read, wrong)
