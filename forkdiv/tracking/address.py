"""Where the tracking store of a study is, and what its experiment is called."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import refuse
from forkdiv.tracking.names import without_password

# a server keeps its own artifacts; for a database they are in the study's output folder
SERVERS = ("http", "https", "databricks", "databricks-uc")
DATABASE = "mlflow.db"  # and `mlartifacts` beside it: where `mlflow ui` looks without options
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Address:
    """A tracking store. `artifacts` is the folder of the files of runs; None for a server, which
    keeps them itself."""

    uri: str
    artifacts: Path | None

    @classmethod
    def of(cls, place: PlaceConfig) -> Address:
        """Returns the store that place.mlflow_uri or MLFLOW_TRACKING_URI names, by default an
        SQLite file. Raises UserError for an address that MLflow cannot use."""
        uri = place.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
        if not uri:
            # absolute, because processes of a study run in other folders
            return cls(f"sqlite:///{place.root / DATABASE}", place.root / "mlartifacts")
        scheme = urlsplit(uri).scheme.partition("+")[0]
        if uri != "databricks" and scheme not in (*SERVERS, *DATABASES):
            raise refuse(
                "MLflow cannot write to this address",
                without_password(uri),
                "http:// or https:// of a tracking server, or the address of a database "
                "(sqlite:///, postgresql://, mysql://)",
                "correct place.mlflow_uri or MLFLOW_TRACKING_URI, or set place.mlflow_uri=null for "
                "an SQLite file in place.root",
            )
        is_database = scheme in DATABASES
        return cls(uri, place.root / "mlartifacts" if is_database else None)

    @property
    def shown(self) -> str:
        """The address without the password that it may have."""
        return without_password(self.uri)

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for other stores."""
        prefix = "sqlite:///"
        return Path(self.uri.removeprefix(prefix)) if self.uri.startswith(prefix) else None


def experiment_name(place: PlaceConfig, study: str) -> str:
    """Returns the name of the experiment of a study's runs."""
    return place.mlflow_experiment or f"forkdiv/{study}"


def artifact_folder_name(experiment: str) -> str:
    """Returns the folder of an experiment's files below the folder of artifacts."""
    return re.sub(r"[^\w.-]+", "-", experiment).strip(".-") or "experiment"
