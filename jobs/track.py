"""Show what MLflow has of the studies in place.root, or send it what it has not.

    forkdiv track
    forkdiv track --send quickstart
    forkdiv track --send place.mlflow_uri=http://127.0.0.1:5000

A study writes what it records for MLflow to files beside its results (runs/NAME/tracking/) and
sends it while it runs. Where MLflow was down, slow, or is another one now, `--send` sends the rest;
nothing is written twice. Without names: all studies. The status is 1 if something could not be
sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.results import TrackedRun
from forkdiv.terminal import say
from forkdiv.tracking.address import Address
from forkdiv.tracking.outbox import FOLDER, study_folders
from forkdiv.tracking.sender import Sender
from forkdiv.tracking.server import Server, Unreachable
from forkdiv.tracking.view import view_key
from jobs.report import mlflow_ui


def run(study: StudyConfig, studies: Sequence[Path] = (), send: bool = False) -> None:
    root = study.place.root
    address = Address.of(study.place)
    folders = [root / name for name in studies] or sorted(
        folder.parent for folder in root.glob(f"*/{FOLDER}")
    )
    known = [folder for folder in folders if (folder / FOLDER).is_dir()]
    if not known or len(known) < len(folders):
        missing = [folder.name for folder in folders if folder not in known]
        raise refuse(
            "there is nothing recorded for MLflow",
            f"no folder {FOLDER}/ of {', '.join(missing) or 'any study'} in {root}",
            "the names of studies that have started",
            "run the study first, or correct the name and place.root",
        )
    failed = [line for folder in known if (line := _show(folder, address, send))]
    if failed:
        raise InvalidResult("; ".join(failed))


def _show(folder: Path, address: Address, send: bool) -> str | None:
    """Shows how far a study's records are sent, after sending them; returns what failed."""
    server = Server(address)
    failed = None
    for of_study in study_folders(folder):
        sender = Sender(of_study, server)
        sent = 0
        if send:
            try:
                server.check()
                sent = sender.send(verify=True)
            except Unreachable as error:
                failed = f"{folder.name}: MLflow at {address.shown} does not take records ({error})"
        say(f"{folder.name} ({of_study.name[:8]}): {_state(sender, sent)}")
        if sender.refused:
            failed = f"{folder.name}: {len(sender.refused)} records refused: {sender.refused[0]}"
        if ids := sender.study_run():
            run = TrackedRun.of(address.uri, *ids, view_key(of_study.name))
            if send:
                run.keep_in(folder)
            say(f"  {run.trials_url}" if run.is_server else f"  {mlflow_ui(run)}")
    return failed


def _state(sender: Sender, sent: int) -> str:
    waiting = sender.waiting()
    parts = [f"sent {sent} records"] if sent else []
    parts.append(f"{waiting} records wait (`forkdiv track --send`)" if waiting else "up to date")
    return ", ".join(parts)


if __name__ == "__main__":
    cli.run_job("track")
