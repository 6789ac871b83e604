"""The summary of a study or a comparison: read from the store, or computed and stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.results import Summary
from forkdiv.core.store import Store, write_text
from forkdiv.coverage import summary

SUMMARY = "summary.json"


def obtain_summary(
    study: StudyConfig,
    identity: Identity,
    make: Callable[[], Summary],
    show: Callable[[str], None],
) -> Summary:
    """Returns the summary with this identity, and writes it to the study's folder.

    A summary that `make` computes is stored only if all its cells are valid, so that the next run
    repeats what failed.
    """
    store = Store.of(study.place)
    if artifact := store.find(identity):
        show("these results exist and are reused; nothing is computed again")
        with artifact.reading(SUMMARY) as path:
            done = Summary.model_validate(json.loads(path.read_text()))
    else:
        done = make()
        if summary.is_valid(done):
            text = json.dumps(done.as_json())
            store.obtain(identity, lambda path: write_text(path / SUMMARY, text))
    # a study with another name may have stored it, or one that named the same commits otherwise
    done = done.under_name(study.name).with_notes(map(str, study.sources))
    write_summary(done, study.folder)
    return done


def write_summary(done: Summary, folder: Path) -> None:
    """Writes the summary to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SUMMARY, json.dumps(done.as_json(), indent=1))
