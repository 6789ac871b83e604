"""A study's run in MLflow, so that the report can lead to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import ValidationError

from forkdiv.core.errors import refuse
from forkdiv.core.files import read_small_text
from forkdiv.core.results.cell import Result
from forkdiv.core.store import write_text

FILE = "mlflow.json"
MAX_BYTES = 2**16
PORT = 5000  # of `mlflow ui` on this machine
# without it, MLflow shows the pages of language model applications
MODEL_TRAINING = "workflowType=machine_learning"


class TrackedRun(Result):
    """`uri` is the tracking store: a server's address, or a database of this machine. `view` is the
    name of the study's view in MLflow's page."""

    uri: str
    experiment: str
    run: str
    view: str | None = None

    @classmethod
    def of(cls, uri: str, experiment: str, run: str, view: str | None = None) -> TrackedRun:
        """Without the name and password that an address may hold: reports are passed on."""
        uri = re.sub(r"//[^/@]*@", "//", uri)
        return cls(uri=uri, experiment=experiment, run=run, view=view)

    @property
    def is_server(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    @property
    def url(self) -> str:
        """Of the run's page; of a local store, as `mlflow ui` will serve it."""
        return f"{self._page}/{self.run}?{MODEL_TRAINING}"

    @property
    def trials_url(self) -> str:
        """Of the study's trials side by side, with charts."""
        view = f"viewStateShareKey={self.view}&compareRunsMode=CHART&" if self.view else ""
        return f"{self._page}?{view}{MODEL_TRAINING}"

    @property
    def _page(self) -> str:
        server = self.uri.rstrip("/") if self.is_server else f"http://127.0.0.1:{PORT}"
        return f"{server}/#/experiments/{self.experiment}/runs"

    def keep_in(self, folder: Path) -> None:
        """Beside the summary, so that a report that is written again needs no MLflow."""
        write_text(folder / FILE, json.dumps(self.as_json()))

    @classmethod
    def kept_in(cls, folder: Path) -> TrackedRun | None:
        """None where the study was made by a version that did not keep it. Raises UserError for a
        damaged file."""
        path = folder / FILE
        if not path.is_file():
            return None
        text = read_small_text(path, "the study's run in MLflow", MAX_BYTES, f"delete {path}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise refuse(
                "the file that names the study's run in MLflow is damaged",
                f"{path} ({error.errors(include_url=False)[0]['msg']})",
                "uri, experiment and run as text",
                f"delete {path}; the report then has no link to MLflow",
            ) from error
