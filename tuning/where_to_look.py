"""Where the progress and the results of a study can be watched while it runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.results.tracked import PORT
from forkdiv.tracking import Tracker


def lines(study: StudyConfig, fingerprint: str) -> list[str]:
    """Returns one line per place: results, MLflow, and Ray Tune's own files."""
    return [
        f"results: {study.folder} (report.html at the end; progress.jsonl until then)",
        mlflow(study.place),
        f"Ray Tune's files: {tune_folder(study, fingerprint)} (tensorboard --logdir shows them)",
    ]


def mlflow(place: PlaceConfig) -> str:
    """Returns the address of the tracking server, or the command that shows an SQLite file."""
    tracker = Tracker.of(place)
    if tracker.artifacts is None:
        return f"MLflow: {_without_password(tracker.uri)} (experiment forkdiv)"
    program = Path(sys.executable).with_name("mlflow")
    return f"MLflow: {program} ui --backend-store-uri {tracker.uri} --port {PORT}"


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", uri)


def tune_folder(study: StudyConfig, fingerprint: str) -> Path:
    """Returns the folder in which Ray Tune keeps the trials of the study with this fingerprint."""
    return (study.place.root / "tune" / f"{study.name}-{fingerprint[:8]}").resolve()
