"""Where the progress and the results of a study can be watched while it runs."""

from __future__ import annotations

import sys
from pathlib import Path

from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.results.tracked import PORT
from forkdiv.tracking.address import Address, experiment_name
from tuning.check_ray import ray_address


def lines(study: StudyConfig, fingerprint: str) -> list[str]:
    """Returns one line per place: results, MLflow, and Ray Tune's own files."""
    return [
        f"results: {study.folder} (report.html at the end; progress.jsonl until then)",
        mlflow(study.place, study.name),
        f"Ray Tune's files: {tune_folder(study, fingerprint)} (tensorboard --logdir shows them)",
    ]


def mlflow(place: PlaceConfig, study: str) -> str:
    """Returns the address of the tracking server, or the command that shows an SQLite file."""
    address = Address.of(place)
    if address.file is None:
        return f"MLflow: {address.shown} (experiment {experiment_name(place, study)})"
    # a job of a cluster runs on any of its hosts, and its log is read elsewhere
    program = "mlflow" if ray_address(place) else Path(sys.executable).with_name("mlflow")
    return f"MLflow: cd {address.file.parent} && {program} ui --port {PORT}"


def tune_folder(study: StudyConfig, fingerprint: str) -> Path:
    """Returns the folder in which Ray Tune keeps the trials of the study with this fingerprint."""
    return (study.place.root / "tune" / f"{study.name}-{fingerprint[:8]}").resolve()
