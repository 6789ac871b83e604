"""What a command sends to a cluster: its folder, its command line, and the commit of its code."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit

import forkdiv
from forkdiv.core.code_version import COMMIT, commit
from forkdiv.core.config.shipped import configs
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.written import Written
from forkdiv.core.errors import refuse
from tuning.job_client import Jobs

ADDRESS = "RAY_API_SERVER_ADDRESS"  # where Ray's own command line looks for it


def connect(address: str | None, environment: str | None) -> Jobs:
    """Returns the jobs of the cluster at --address, or at the address in `environment`, the value
    of RAY_API_SERVER_ADDRESS."""
    if not (given := address or environment):
        raise refuse(
            "the cluster is not named",
            "no --address",
            f"--address http://HOST:PORT, the cluster's dashboard, or the variable {ADDRESS}",
            "add --address",
        )
    return Jobs.at(given)


def start(jobs: Jobs, verb: str, study: StudyConfig, written: Written) -> str:
    """Starts `python3 -m jobs.VERB` as a job in a copy of the current folder; returns its id.

    Raises UserError for settings that cannot be used on a cluster.
    """
    folder = Path.cwd()
    _check(study, written, folder)
    command = shlex.join(["python3", "-m", f"jobs.{verb}", *written.arguments])
    return jobs.submit(command, folder, _variables(folder))


def _variables(folder: Path) -> dict[str, str]:
    """Returns the commit of the code that is sent; nothing if the folder has no code, and the
    cluster's own is used."""
    sent = folder.resolve() == Path(forkdiv.__file__).resolve().parents[1]
    known = commit() if sent else None
    return {COMMIT: known} if known else {}


def _check(study: StudyConfig, written: Written, folder: Path) -> None:
    place = study.place
    if place.root.is_relative_to(folder):
        raise refuse(
            "place.root is not a folder of the cluster",
            f"{place.root}, in the folder of this command",
            "a folder that all hosts of the cluster share, by its absolute path",
            "set place.root, such as place.root=/shared/runs",
        )
    if place.ray_address is not None:
        raise refuse(
            "place.ray_address cannot be set for a job: it joins the cluster that it runs on",
            place.ray_address,
            "--address alone",
            "remove place.ray_address",
        )
    if place.mlflow_uri and urlsplit(place.mlflow_uri).password:
        raise refuse(
            "place.mlflow_uri contains a password, which the cluster's dashboard would show",
            "http://USER:PASSWORD@…",
            "an address without it",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where Ray starts",
        )
    config = written.config
    if config is None or str(config) in configs():
        return
    if config.is_absolute() or not (folder / config).resolve().is_relative_to(folder.resolve()):
        raise refuse(
            "the config is not in the folder that is sent to the cluster",
            config,
            f"a file below {folder}, by its relative path, or a name that `forkdiv configs` lists",
            "copy it there, or run this command in its folder",
        )
