"""Cases of the readers of the store and of results: records, samples, datasets, summaries."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from forkdiv.core import store_contents
from forkdiv.core.config.load import load
from forkdiv.core.errors import InvalidResult
from forkdiv.core.explain import Results
from forkdiv.core.explain import read as read_explained
from forkdiv.core.fingerprint import Identity
from forkdiv.core.results import TrackedRun
from forkdiv.core.store import Store
from forkdiv.data import dataset, inputs
from forkdiv.report import page, studies
from forkdiv.sample import parts
from forkdiv.tasks.registry import build
from tests.fuzz.case import Case
from tests.fuzz.mutate import damage_file
from tests.summaries import grid_summary

FACTS = {"answer": "1"}


def with_results(root: Path) -> tuple[Store, list[Identity]]:
    """A store with two results and a set of samples."""
    store = Store(root / "store")
    identities = [
        Identity("verdicts", {"x": n, "name": "ab"}, {"parent": "f" * 32}) for n in (1, 2)
    ]
    for identity in identities:
        store.obtain(identity, _build)
    samples = Identity("samples", {"task": "t"}, {"checkpoint": "c" * 32})
    folder = store.path(samples)
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps(samples.describe()))
    for first in (0, 4):
        parts.write(folder, [_sample(first + n) for n in range(4)])
    return store, [*identities, samples]


def _build(folder: Path) -> None:
    (folder / "data.json").write_text(json.dumps({"values": list(range(50))}))
    (folder / "empty").write_bytes(b"")


def _sample(index: int) -> dict[str, object]:
    return {
        "problem_id": "p1",
        "sample_index": index,
        "seed": index,
        "subset": "",
        "prompt": "1?",
        "text": f"answer {index}",
        "token_ids": [1, 2],
        "finish": "stop",
        "facts": json.dumps(FACTS),
        "stratum": None,
        "tree": None,
    }


def record(folder: Path, rng: Random) -> Case:
    """Damage to any file of a store, as a study, `store verify` and `why` meet it."""
    store, identities = with_results(folder)
    file = rng.choice(
        [path for path in store.root.rglob("*") if path.is_file() and path.stat().st_size]
    )
    if file.parent.name == "leases":
        file = store.path(identities[0]) / "record.json"
    before = file.read_bytes()
    what = damage_file(file, rng, is_json=file.suffix == ".json")
    changed = file.is_symlink() or not file.is_file() or _content(file) != before

    def read() -> Any:
        contents = store_contents.read(store.root)
        check = list(contents.entries)
        problems = [d for entry in check for d in store_contents.damages(entry, parts.check)]
        explain = Results(folder)
        refusals = []
        for identity in identities:
            refusals += _refused(lambda i=identity: store.find(i))
            at = store.path(identity)
            if at.is_dir():
                refusals += _refused(lambda at=at: explain.nearest(read_explained(at)))
        return [*(damage.problem for damage in problems), *refusals]

    def wrong(messages: list[str]) -> str | None:
        long = [message for message in messages if len(message) > 2000]
        if long:
            return f"a message of {len(long[0])} characters: {long[0][:100]}"
        if changed and not messages and file.name != "record.json" and matters(file, before):
            return f"a change of {file.name} was not found"
        return None

    return Case(f"store {file.name[:8].rstrip('.json')}", what, read, wrong)


def _refused(read: Any) -> list[str]:
    try:
        read()
    except InvalidResult as error:
        return [str(error)]
    except Exception as error:
        if type(error).__name__ != "UserError":
            raise
        return [str(error)]
    return []


def matters(file: Path, before: bytes) -> bool:
    """A file that went away, or a record that has the same content, is no damage of the set."""
    if file.is_symlink() or not file.is_file():
        return False
    if _content(file) == before:
        return False
    try:
        return bool(json.loads(_content(file)) != json.loads(before))
    except (ValueError, RecursionError):
        return True


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(2**24)


def summary(folder: Path, rng: Random) -> Case:
    study = folder / "study"
    study.mkdir()
    done = grid_summary(subsets=("all",), temperatures=(1.0,))
    (study / "summary.json").write_text(json.dumps(done.as_json()))
    tracked = TrackedRun.of("sqlite:///x.db", "1", "abc")
    tracked.keep_in(study)
    file = study / rng.choice(("summary.json", "summary.json", "summary.json", "mlflow.json"))
    what = damage_file(file, rng)

    def read() -> Any:
        found = studies.read(study)
        page.write(found, study)
        TrackedRun.kept_in(study)
        return found

    return Case(file.name, what, read)


def own_dataset(folder: Path, rng: Random) -> Case:
    """A dataset folder of forkdiv, given with --data."""
    study = load(None, [f"place.root={folder / 'runs'}"])
    made = folder / "dataset"
    made.mkdir()
    task = build(study.task)
    config = study.dataset.model_copy(update={"examples": 12})
    dataset.write(made, task.sft_examples(config), dataset.sft_identity(task, config), task)
    file = rng.choice(sorted(made.iterdir()))
    what = damage_file(file, rng, is_json=file.suffix == ".json")
    given = study.model_copy(update={"data": made})

    def read() -> int:
        return sum(1 for _ in inputs.examples(inputs.with_task_of_data(given)))

    def wrong(rows: int) -> str | None:
        return None if rows == 12 or file.suffix == ".json" else f"{rows} of 12 examples"

    return Case(f"dataset {file.name}", what, read, wrong)
