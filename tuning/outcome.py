"""The summary of a study or a comparison: found where it is done, else made and published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity, canonical
from forkdiv.core.results import Summary
from forkdiv.core.store import Store, write_text
from forkdiv.coverage import summary
from forkdiv.tracking import Tracker

SUMMARY = "summary.json"
NOT_SHOWN = {"place", "pretrain", "base", "checkpoint", "audit", "data", "plan"}


def obtain_summary(
    study: StudyConfig,
    identity: Identity,
    make: Callable[[], Summary],
    show: Callable[[str], None],
) -> Summary:
    """The summary of that identity, also written to the study's folder.

    One that `make` has just made is published where it can be trusted; one with invalid cells is
    not, so that the next run tries them again.
    """
    store = Store.of(study.place)
    if artifact := store.find(identity):
        show("these results exist and are reused; nothing is computed again")
        done = Summary.model_validate(json.loads((artifact.path / SUMMARY).read_text()))
    else:
        done = make()
        if summary.is_valid(done):
            text = json.dumps(done.as_json())
            store.obtain(identity, lambda path: write_text(path / SUMMARY, text))
    done = done.under_name(study.name)  # one that was found may have been made under another name
    write_summary(done, study.folder)
    return done


def write_summary(done: Summary, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SUMMARY, json.dumps(done.as_json(), indent=1))


def parent_run(study: StudyConfig, fingerprint: str) -> str:
    """The study's run in MLflow, created where it does not exist."""
    return Tracker.of(study.place).study(fingerprint, study.name, _flat(study))


def _flat(study: StudyConfig) -> dict[str, str]:
    """The study's settings as MLflow params, dotted."""
    flat: dict[str, str] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else key, value)
        else:
            flat[prefix] = json.dumps(node) if isinstance(node, list) else str(node)

    walk("", canonical(study.model_dump(mode="json", exclude=NOT_SHOWN)))
    return flat
